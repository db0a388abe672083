from .distiller import Distiller
from .inspect_taps import TapRow, inspect_taps
from .store import TeacherStore
from .taps import FeatureTaps
from .teacher_input import AdaptInput

__all__ = ["AdaptInput", "Distiller", "FeatureTaps", "TapRow", "TeacherStore", "inspect_taps"]
