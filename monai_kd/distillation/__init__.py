from .distiller import Distiller
from .inspect_taps import TapRow, inspect_taps
from .rehearsal import Rehearsal, fitted_projections, rehearse
from .store import TeacherStore
from .taps import FeatureTaps
from .teacher_input import AdaptInput, resize_to

__all__ = [
    "AdaptInput",
    "Distiller",
    "FeatureTaps",
    "Rehearsal",
    "TapRow",
    "TeacherStore",
    "fitted_projections",
    "inspect_taps",
    "rehearse",
    "resize_to",
]
