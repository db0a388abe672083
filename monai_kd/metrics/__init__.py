from .bootstrap import bootstrap_interval
from .masks import METRICS, mask_metrics
from .summary import patient_rows, summarise
from .tables import summary_table, write_rows

__all__ = [
    "METRICS",
    "bootstrap_interval",
    "mask_metrics",
    "patient_rows",
    "summarise",
    "summary_table",
    "write_rows",
]
