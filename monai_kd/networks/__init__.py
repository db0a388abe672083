from .backbone import classifier_of, create_backbone
from .ensemble import Ensemble
from .hybrid_unet import HybridUNet
from .late_fusion import LateFusionClassifier
from .timm_hybrid_unet import TimmHybridUNet
from .timm_unet import TimmUNet

__all__ = [
    "Ensemble",
    "HybridUNet",
    "LateFusionClassifier",
    "TimmHybridUNet",
    "TimmUNet",
    "classifier_of",
    "create_backbone",
]
