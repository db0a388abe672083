from .checkpoint import TrainingCheckpoint
from .confusion_picture import ConfusionPicture
from .defined_dice import DefinedDice, not_worse
from .dice_and_specificity import Specificity, dice_and_specificity, validation_metrics
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .labelled import LabelledAccuracy, from_labelled
from .load_weights import LoadWeights
from .loss_weight_schedule import LossWeightSchedule
from .overlay_grid import OverlayGrid
from .run_settings import RunSettings
from .teacher_outputs import FillTeacherStore
from .training_run import TrainingRun
from .weight_average import WeightAverage

__all__ = [
    "ConfusionPicture",
    "DefinedDice",
    "EpochLog",
    "EpochSeed",
    "FillTeacherStore",
    "LabelledAccuracy",
    "LoadWeights",
    "LossWeightSchedule",
    "OverlayGrid",
    "RunSettings",
    "Specificity",
    "TrainingCheckpoint",
    "TrainingRun",
    "WeightAverage",
    "dice_and_specificity",
    "from_labelled",
    "not_worse",
    "validation_metrics",
]
