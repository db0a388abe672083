from .classes import plot_confusion, plot_reliability
from .curves import plot_curves
from .detection import plot_froc, plot_roc
from .overlays import OverlayPanel, class_colours, draw_legend, draw_outline, draw_outlines, plot_overlays
from .scores import plot_scores

__all__ = [
    "OverlayPanel",
    "class_colours",
    "draw_legend",
    "draw_outline",
    "draw_outlines",
    "plot_confusion",
    "plot_curves",
    "plot_froc",
    "plot_overlays",
    "plot_reliability",
    "plot_roc",
    "plot_scores",
]
