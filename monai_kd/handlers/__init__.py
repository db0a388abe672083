from .checkpoint import TrainingCheckpoint
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .evaluation_report import EvaluationReport
from .load_weights import LoadWeights
from .overlay_grid import OverlayGrid

__all__ = ["EpochLog", "EpochSeed", "EvaluationReport", "LoadWeights", "OverlayGrid", "TrainingCheckpoint"]
