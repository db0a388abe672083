from .distiller import Distiller
from .store import TeacherStore
from .taps import FeatureTaps

__all__ = ["Distiller", "FeatureTaps", "TeacherStore"]
