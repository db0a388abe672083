from .classes import class_weights, load_classes
from .datalist import class_name, class_names, load_fold, read_datalist
from .spacing import in_plane_spacing

__all__ = [
    "class_name",
    "class_names",
    "class_weights",
    "in_plane_spacing",
    "load_classes",
    "load_fold",
    "read_datalist",
]
