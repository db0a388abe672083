from .curves import plot_curves
from .overlays import OverlayPanel, plot_overlays

__all__ = ["OverlayPanel", "plot_curves", "plot_overlays"]
