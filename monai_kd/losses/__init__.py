from .attention import AttentionLoss
from .deep_supervision import DeepSupervision
from .distillation import DistillationLoss, LossReport, WithTeacher
from .edge import EdgeLoss
from .feature import FeatureLoss, MultiScaleFusionLoss
from .logit import LogitKL, LogitMSE
from .projection import Projections

__all__ = [
    "AttentionLoss",
    "DeepSupervision",
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
