from .checkpoint import TrainingCheckpoint
from .class_report import ClassReport
from .confusion_picture import ConfusionPicture
from .defined_dice import DefinedDice, not_worse
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .evaluation_report import EvaluationReport
from .load_weights import LoadWeights
from .mask_report import MaskReport
from .overlay_grid import OverlayGrid
from .run_settings import RunSettings
from .training_run import TrainingRun

__all__ = [
    "ClassReport",
    "ConfusionPicture",
    "DefinedDice",
    "EpochLog",
    "EpochSeed",
    "EvaluationReport",
    "LoadWeights",
    "MaskReport",
    "OverlayGrid",
    "RunSettings",
    "TrainingCheckpoint",
    "TrainingRun",
    "not_worse",
]
