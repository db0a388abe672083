from ..networks.outputs import all_logits, main_logits
from .batch_augmentation import BatchAugmentation
from .class_batch import ClassBatch
from .inferer import LogitsInferer, PlanarInferer
from .label_path import LabelPath
from .precision import autocast, autocast_dtype, autocast_pays
from .trainer import DistillationTrainer

__all__ = [
    "BatchAugmentation",
    "ClassBatch",
    "DistillationTrainer",
    "LabelPath",
    "LogitsInferer",
    "PlanarInferer",
    "all_logits",
    "autocast",
    "autocast_dtype",
    "autocast_pays",
    "main_logits",
]
