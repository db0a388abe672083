"""What MONAI Label looks for in the folder of an app; ``python -m monai_kd label_app`` puts it there."""

from monai_kd.label.server import SliceApp

__all__ = ["SliceApp"]
