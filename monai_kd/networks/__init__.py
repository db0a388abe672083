from .backbone import classifier_of, create_backbone
from .hybrid_unet import HybridUNet
from .late_fusion import LateFusionClassifier
from .timm_unet import TimmUNet

__all__ = ["HybridUNet", "LateFusionClassifier", "TimmUNet", "classifier_of", "create_backbone"]
