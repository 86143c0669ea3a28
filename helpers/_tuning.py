"""No idle waits between epochs. `helpers.callbacks` and `helpers.models` import this module for its effect.

For each epoch, and each call of `predict`, Keras makes an iterator of `tf.data`, and TensorFlow gives it a thread which
tunes the pipeline at times that double from 10 ms to a minute. Destroying the iterator wakes the thread before the flag
that it looks for is set (`Model::OptimizeLoop` and `CancellationManager::StartCancelWithStatus`; seen with TensorFlow
2.21). If it looks too soon, it sleeps on until the next of its times, and the epoch waits with it: for up to as long
again as the epoch took, on two cores in up to one epoch of three. Arrays in memory leave nothing to tune.
"""

import functools

import keras


def switch_off():
    """Keras's pipelines for arrays and for `PyDataset` without tuning: the same batches, no thread, no waiting."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    try:
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
        from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
    except ImportError:  # a Keras that keeps them elsewhere: it may wait, and is right
        return

    def untuned(get_tf_dataset):
        @functools.wraps(get_tf_dataset)
        def wrapped(self):
            options = tf.data.Options()
            options.autotune.enabled = False
            return get_tf_dataset(self).with_options(options)

        return wrapped

    for adapter in (ArrayDataAdapter, PyDatasetAdapter):
        if not hasattr(adapter.get_tf_dataset, "__wrapped__"):    # this module may be imported a second time
            adapter.get_tf_dataset = untuned(adapter.get_tf_dataset)


switch_off()
