from .curves import plot_curves
from .overlays import OverlayPanel, plot_overlays
from .scores import plot_scores

__all__ = ["OverlayPanel", "plot_curves", "plot_overlays", "plot_scores"]
