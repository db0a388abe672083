from .checkpoint import TrainingCheckpoint
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .overlay_grid import OverlayGrid

__all__ = ["EpochLog", "EpochSeed", "OverlayGrid", "TrainingCheckpoint"]
