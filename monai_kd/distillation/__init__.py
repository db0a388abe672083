from .distiller import Distiller
from .rehearsal import Rehearsal, fitted_projections, rehearse
from .store import TeacherStore
from .taps import FeatureTaps

__all__ = ["Distiller", "FeatureTaps", "Rehearsal", "TeacherStore", "fitted_projections", "rehearse"]
