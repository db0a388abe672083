from .classes import plot_confusion, plot_reliability
from .curves import plot_curves
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
    "plot_overlays",
    "plot_reliability",
    "plot_scores",
]
