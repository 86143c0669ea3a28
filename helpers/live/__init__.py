"""Live figures: a Keras graph that runs in the reader's browser, or in a live kernel, and the objects that show it."""

from helpers.live.drawing import DrawingExplorer
from helpers.live.explorer import LadderExplorer, LatentExplorer
from helpers.live.exporter import export
from helpers.live.figure import LiveFigure, SideBySide, area, bars, curves, dots, image, line, numbers
from helpers.live.in_kernel import KernelExplorer

__all__ = [
    "DrawingExplorer", "KernelExplorer", "LadderExplorer", "LatentExplorer", "LiveFigure", "SideBySide", "area", "bars",
    "curves", "dots", "export", "image", "line", "numbers",
]  # fmt: skip
