from ..io import SliceReader, SourceImage, UnreadableImage, read_image, read_source
from .classifications import Classifications, rank_classes
from .dataset import ReadableDataset, collate_file
from .evaluator import FileEvaluator
from .findings import Findings, measure
from .input_volumes import InputVolumes
from .inputs import InputFiles
from .masks import MaskLayout, MaskWriter
from .predictor import BundlePredictor
from .small_areas import DropSmallAreasd

__all__ = [
    "BundlePredictor",
    "Classifications",
    "DropSmallAreasd",
    "FileEvaluator",
    "Findings",
    "InputFiles",
    "InputVolumes",
    "MaskLayout",
    "MaskWriter",
    "ReadableDataset",
    "SliceReader",
    "SourceImage",
    "UnreadableImage",
    "collate_file",
    "measure",
    "rank_classes",
    "read_image",
    "read_source",
]
