from .class_report import ClassReport
from .compare import run_compare
from .describe import describe_evaluation
from .mask_report import MaskReport
from .report import EvaluationReport

__all__ = ["ClassReport", "EvaluationReport", "MaskReport", "describe_evaluation", "run_compare"]
