from .attention import AttentionLoss
from .distillation import DistillationLoss, LossReport, WithTeacher
from .edge import EdgeLoss
from .feature import FeatureLoss, MultiScaleFusionLoss
from .logit import LogitKL, LogitMSE
from .projection import Projections

__all__ = [
    "AttentionLoss",
    "DistillationLoss",
    "EdgeLoss",
    "FeatureLoss",
    "LogitKL",
    "LogitMSE",
    "LossReport",
    "MultiScaleFusionLoss",
    "Projections",
    "WithTeacher",
]
