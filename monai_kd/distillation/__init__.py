from .distiller import Distiller
from .taps import FeatureTaps

__all__ = ["Distiller", "FeatureTaps"]
