from .class_batch import ClassBatch
from .inferer import PlanarInferer
from .precision import autocast, autocast_dtype
from .trainer import DistillationTrainer

__all__ = ["ClassBatch", "DistillationTrainer", "PlanarInferer", "autocast", "autocast_dtype"]
