from .backbone import classifier_of, create_backbone
from .hybrid_unet import HybridUNet
from .late_fusion import LateFusionClassifier

__all__ = ["HybridUNet", "LateFusionClassifier", "classifier_of", "create_backbone"]
