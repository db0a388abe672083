from .checkpoint import TrainingCheckpoint
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .evaluation_report import EvaluationReport
from .overlay_grid import OverlayGrid

__all__ = ["EpochLog", "EpochSeed", "EvaluationReport", "OverlayGrid", "TrainingCheckpoint"]
