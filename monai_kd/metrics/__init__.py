from .bootstrap import bootstrap_interval
from .class_summary import class_patient_rows, class_summary_table, summarise_classes
from .classes import CLASS_METRICS, PER_CLASS_METRICS, class_metrics, confusion_matrix, per_class_metrics
from .masks import METRICS, mask_metrics
from .paired import check_same_data, paired_differences, paired_table, read_slices
from .summary import patient_rows, summarise
from .tables import summary_table, write_rows
from .temperature import cross_fitted_temperatures, fit_temperature
from .uncertainty import slice_disagreement, slice_entropy

__all__ = [
    "CLASS_METRICS",
    "METRICS",
    "PER_CLASS_METRICS",
    "bootstrap_interval",
    "check_same_data",
    "class_metrics",
    "class_patient_rows",
    "class_summary_table",
    "confusion_matrix",
    "cross_fitted_temperatures",
    "fit_temperature",
    "mask_metrics",
    "paired_differences",
    "paired_table",
    "patient_rows",
    "per_class_metrics",
    "read_slices",
    "slice_disagreement",
    "slice_entropy",
    "summarise",
    "summarise_classes",
    "summary_table",
    "write_rows",
]
