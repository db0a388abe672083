from .class_report import ClassReport
from .compare import run_compare
from .describe import describe_evaluation
from .mask_report import MaskReport
from .report import EvaluationReport
from .volume_report import VolumeReport

__all__ = ["ClassReport", "EvaluationReport", "MaskReport", "VolumeReport", "describe_evaluation", "run_compare"]
