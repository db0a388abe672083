from .backbone import create_backbone
from .hybrid_unet import HybridUNet

__all__ = ["HybridUNet", "create_backbone"]
