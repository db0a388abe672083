from ..io import SliceReader, SourceImage, UnreadableImage, read_image, read_source
from .classifications import Classifications, rank_classes
from .dataset import ReadableDataset, collate_file
from .decision import DecideMaskd, threshold_of_expected_dice
from .evaluator import FileEvaluator
from .findings import Findings
from .input_kind import JudgeClassInputd, JudgeInputd
from .input_volumes import InputVolumes
from .inputs import InputFiles
from .masks import MaskLayout, MaskWriter
from .measures import Finding, finding_of, measure
from .predictor import BundlePredictor
from .presence import JudgePresenced
from .small_areas import DropSmallAreasd
from .thin_marks import DropThinMarksd

__all__ = [
    "BundlePredictor",
    "Classifications",
    "DecideMaskd",
    "DropSmallAreasd",
    "DropThinMarksd",
    "FileEvaluator",
    "Finding",
    "Findings",
    "InputFiles",
    "InputVolumes",
    "JudgeClassInputd",
    "JudgeInputd",
    "JudgePresenced",
    "MaskLayout",
    "MaskWriter",
    "ReadableDataset",
    "SliceReader",
    "SourceImage",
    "UnreadableImage",
    "collate_file",
    "finding_of",
    "measure",
    "rank_classes",
    "read_image",
    "read_source",
    "threshold_of_expected_dice",
]
