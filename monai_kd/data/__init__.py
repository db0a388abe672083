from .datalist import class_names, load_fold, read_datalist

__all__ = ["class_names", "load_fold", "read_datalist"]
