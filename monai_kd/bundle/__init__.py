from .data import dataset_folder, preset
from .running import check_overrides, check_settings, choose, root
from .settings import save_settings, saved_settings
from .teacher import provide_teacher

__all__ = [
    "check_overrides",
    "check_settings",
    "choose",
    "dataset_folder",
    "preset",
    "provide_teacher",
    "root",
    "save_settings",
    "saved_settings",
]
