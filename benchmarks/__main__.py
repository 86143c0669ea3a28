"""`make bench`, or in part: `python -m benchmarks --only speed pages`."""

import argparse
import importlib
import math
import os
import sys

from benchmarks.report import RESULTS, Unavailable, store

# In the order of RESULTS.md. Each is a function of its own name in the module named here: options -> Markdown.
SECTIONS = {
    "speed": ("limits", "Speed of the networks"),
    "training": ("training", "Test ELBO against seconds"),
    "pages": ("pages", "Live figures and pages"),
    "build": ("book", "Building the book"),
    "execute": ("book", "Executing the book"),
}
SECONDS = [15.0, 60.0, 240.0]


def positive(text):
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"seconds must be above 0; got {text}")
    return value


def parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION",
                        help=f"what to measure: {', '.join(SECTIONS)}; everything if left out")  # fmt: skip
    parser.add_argument("--seconds", nargs="+", type=positive, default=SECONDS,
                        help="training: when to judge (15 60 240)")  # fmt: skip
    parser.add_argument("--chapters", nargs="+", metavar="NN", help="execute: these chapters only, such as 02 03")
    options = parser.parse_args(arguments)
    options.seconds = sorted(set(options.seconds))
    return options


def import_quietly(module):
    """TensorFlow shall tell of errors only, and not greet: it does that below Python's own stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        return importlib.import_module(module)
    finally:
        os.dup2(stderr, 2)


def main(arguments=None):
    options, missing = parse(arguments), []
    trial = options.seconds != SECONDS or options.chapters
    for name in (name for name in SECTIONS if name in options.only):
        module, heading = SECTIONS[name]
        print(f"\n{heading}", flush=True)
        try:
            body = getattr(import_quietly(f"benchmarks.{module}"), name)(options)
        except Unavailable as reason:
            missing.append(f"{name}: {reason}")
            continue
        print(f"\n{body}", flush=True)
        if not trial:
            store(heading, body, [heading for _, heading in SECTIONS.values()])
    print("\nNot stored, since --seconds or --chapters were given." if trial else f"\nStored in {RESULTS.name}.")
    if missing:
        sys.exit("Not measured: " + "; ".join(missing))


if __name__ == "__main__":
    main()
