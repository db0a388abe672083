from .distiller import Distiller
from .inspect_taps import TapRow, inspect_taps
from .rehearsal import Rehearsal, ends_in_probabilities, fitted_projections, may_be_probabilities, rehearse
from .store import TeacherStore
from .taps import FeatureTaps
from .teacher_input import AdaptInput, resize_to, scaling_between
from .teacher_output import AdaptOutput

__all__ = [
    "AdaptInput",
    "AdaptOutput",
    "Distiller",
    "FeatureTaps",
    "Rehearsal",
    "TapRow",
    "TeacherStore",
    "ends_in_probabilities",
    "fitted_projections",
    "inspect_taps",
    "may_be_probabilities",
    "rehearse",
    "resize_to",
    "scaling_between",
]
