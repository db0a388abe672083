from .planar import ResizeInPlane, ResizeInPlaned, ScaleSliceIntensity, ScaleSliceIntensityd, SqueezeSliced

__all__ = ["ResizeInPlane", "ResizeInPlaned", "ScaleSliceIntensity", "ScaleSliceIntensityd", "SqueezeSliced"]
