"""Live figures: a Keras graph that runs in the reader's browser, and the objects that show it."""

from helpers.live.explorer import LatentExplorer
from helpers.live.exporter import export
from helpers.live.figure import LiveFigure, area, bars, curves, dots, line, numbers

__all__ = ["LatentExplorer", "LiveFigure", "area", "bars", "curves", "dots", "export", "line", "numbers"]
