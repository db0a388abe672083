from .best_epoch import best_epoch_by
from .checked import CheckedDataset, UnusableItems
from .classes import class_weights, last_is_alone, load_classes
from .datalist import (
    class_name,
    class_names,
    data_known,
    marked_synthetic,
    mask_value,
    placed,
    read_datalist,
    same_data,
    titled,
    trainings,
)
from .fold import load_fold
from .foreign_lists import datalist_path
from .leaks import find_leaks
from .negative_list import add_negatives
from .negatives import NO_TUMOUR, is_negative
from .slices import SliceDataset
from .spacing import has_geometry, in_plane_spacing, voxel_spacing
from .unlabelled import is_labelled
from .volume_list import load_volumes, modalities, region_values

__all__ = [
    "NO_TUMOUR",
    "CheckedDataset",
    "SliceDataset",
    "UnusableItems",
    "add_negatives",
    "best_epoch_by",
    "class_name",
    "class_names",
    "class_weights",
    "data_known",
    "datalist_path",
    "find_leaks",
    "has_geometry",
    "in_plane_spacing",
    "is_labelled",
    "is_negative",
    "last_is_alone",
    "load_classes",
    "load_fold",
    "load_volumes",
    "marked_synthetic",
    "mask_value",
    "modalities",
    "placed",
    "read_datalist",
    "region_values",
    "same_data",
    "titled",
    "trainings",
    "voxel_spacing",
]
