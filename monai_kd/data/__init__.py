from .classes import class_weights, last_is_alone, load_classes
from .datalist import class_name, class_names, load_fold, read_datalist
from .slices import SliceDataset
from .spacing import in_plane_spacing

__all__ = [
    "SliceDataset",
    "class_name",
    "class_names",
    "class_weights",
    "in_plane_spacing",
    "last_is_alone",
    "load_classes",
    "load_fold",
    "read_datalist",
]
