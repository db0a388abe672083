from .grid import SameGridd
from .mask_channels import foreground_probabilities, index_map, separate_masks
from .masks import ClassOfMaskd, DeclaredMask, DeclaredMaskd, EmptyOwnMaskd
from .negatives import RandRemoveTumourd, RemoveTumourd
from .network_input import NetworkInputd
from .normalization import NORMALIZATION_OF_VOLUMES, NormalizeByd, checked_normalization
from .planar import ResizeInPlane, ResizeInPlaned, ScaleSliceIntensity, ScaleSliceIntensityd, SqueezeSliced
from .postprocessing import ACTIVATIONS, class_postprocessing, mask_postprocessing
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, slice_preprocessing
from .regions import RegionMasks, RegionMasksd
from .symmetry import Midline, find_midline
from .tumour_removal import operate_elsewhere, remove_tumour
from .upright import UprightInPlane, UprightInPlaned, edge_marks, upright_array, upright_aspect, upright_turn
from .volume_preprocessing import volume_preprocessing

__all__ = [
    "ACTIVATIONS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NORMALIZATION_OF_VOLUMES",
    "ClassOfMaskd",
    "DeclaredMask",
    "DeclaredMaskd",
    "EmptyOwnMaskd",
    "Midline",
    "NetworkInputd",
    "NormalizeByd",
    "RandRemoveTumourd",
    "RegionMasks",
    "RegionMasksd",
    "RemoveTumourd",
    "ResizeInPlane",
    "ResizeInPlaned",
    "SameGridd",
    "ScaleSliceIntensity",
    "ScaleSliceIntensityd",
    "SqueezeSliced",
    "UprightInPlane",
    "UprightInPlaned",
    "checked_normalization",
    "class_postprocessing",
    "edge_marks",
    "find_midline",
    "foreground_probabilities",
    "index_map",
    "mask_postprocessing",
    "operate_elsewhere",
    "remove_tumour",
    "separate_masks",
    "slice_preprocessing",
    "upright_array",
    "upright_aspect",
    "upright_turn",
    "volume_preprocessing",
]
