from .grid import SameGridd
from .masks import DeclaredMask, DeclaredMaskd
from .planar import ResizeInPlane, ResizeInPlaned, ScaleSliceIntensity, ScaleSliceIntensityd, SqueezeSliced
from .upright import UprightInPlane, UprightInPlaned, upright_turn

__all__ = [
    "DeclaredMask",
    "DeclaredMaskd",
    "ResizeInPlane",
    "ResizeInPlaned",
    "SameGridd",
    "ScaleSliceIntensity",
    "ScaleSliceIntensityd",
    "SqueezeSliced",
    "UprightInPlane",
    "UprightInPlaned",
    "upright_turn",
]
