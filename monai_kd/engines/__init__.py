from .inferer import PlanarInferer
from .precision import autocast, autocast_dtype
from .trainer import DistillationTrainer

__all__ = ["DistillationTrainer", "PlanarInferer", "autocast", "autocast_dtype"]
