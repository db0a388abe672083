from .backbone import classifier_of, create_backbone
from .hybrid_unet import HybridUNet
from .late_fusion import LateFusionClassifier
from .timm_hybrid_unet import TimmHybridUNet
from .timm_unet import TimmUNet

__all__ = ["HybridUNet", "LateFusionClassifier", "TimmHybridUNet", "TimmUNet", "classifier_of", "create_backbone"]
