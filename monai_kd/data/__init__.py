from .datalist import class_name, class_names, load_fold, read_datalist
from .spacing import in_plane_spacing

__all__ = ["class_name", "class_names", "in_plane_spacing", "load_fold", "read_datalist"]
