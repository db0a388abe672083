from .planar import ResizeInPlane, ResizeInPlaned, ScaleSliceIntensity, ScaleSliceIntensityd, SqueezeSliced
from .upright import UprightInPlane, UprightInPlaned, upright_turn

__all__ = [
    "ResizeInPlane",
    "ResizeInPlaned",
    "ScaleSliceIntensity",
    "ScaleSliceIntensityd",
    "SqueezeSliced",
    "UprightInPlane",
    "UprightInPlaned",
    "upright_turn",
]
