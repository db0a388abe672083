from .bootstrap import bootstrap_interval
from .class_summary import class_patient_rows, class_summary_table, rows_of_kinds, summarise_classes
from .classes import CLASS_METRICS, PER_CLASS_METRICS, class_metrics, confusion_matrix, per_class_metrics
from .diameters import in_plane_diameters
from .head_shape import is_head_shaped
from .lesions import (
    LESION_COLUMNS,
    MOST_LESIONS,
    label_lesions,
    lesion_columns,
    lesion_extents,
    measure_lesions,
)
from .marks import SliceMarks, slice_marks
from .masks import MASK_METRICS, VOLUME_METRICS, class_columns, mask_metrics, masks_metrics, metrics_of, sizes_of
from .operating_point import choose_operating_point, roc_curve
from .paired import check_same_data, notes_of, paired_differences, paired_table, read_slices
from .paired_kinds import with_kinds
from .paired_presence import paired_presence
from .presence import PRESENCE_SCORES, joined_presence, presence_score
from .presence_context import presence_in_context
from .presence_rule import OWN_CLASSES, PresenceRule, classifier_of, needs_classifier_file
from .presence_summary import (
    FROC_RATES,
    froc_curve,
    presence_table,
    summarise_class_presence,
    summarise_presence,
)
from .sign_flip import sign_flip_p_value
from .slice_stack import SliceStack
from .summary import mask_patient_rows, summarise_masks
from .tables import mask_summary_table, write_rows
from .temperature import cross_fitted_temperatures, fit_temperature
from .uncertainty import slice_disagreement, slice_entropy

__all__ = [
    "CLASS_METRICS",
    "FROC_RATES",
    "LESION_COLUMNS",
    "MASK_METRICS",
    "MOST_LESIONS",
    "OWN_CLASSES",
    "PER_CLASS_METRICS",
    "PRESENCE_SCORES",
    "VOLUME_METRICS",
    "PresenceRule",
    "SliceMarks",
    "SliceStack",
    "bootstrap_interval",
    "check_same_data",
    "choose_operating_point",
    "class_columns",
    "class_metrics",
    "class_patient_rows",
    "class_summary_table",
    "classifier_of",
    "confusion_matrix",
    "cross_fitted_temperatures",
    "fit_temperature",
    "froc_curve",
    "in_plane_diameters",
    "is_head_shaped",
    "joined_presence",
    "label_lesions",
    "lesion_columns",
    "lesion_extents",
    "mask_metrics",
    "mask_patient_rows",
    "mask_summary_table",
    "masks_metrics",
    "measure_lesions",
    "metrics_of",
    "needs_classifier_file",
    "notes_of",
    "paired_differences",
    "paired_presence",
    "paired_table",
    "per_class_metrics",
    "presence_in_context",
    "presence_score",
    "presence_table",
    "read_slices",
    "roc_curve",
    "rows_of_kinds",
    "sign_flip_p_value",
    "sizes_of",
    "slice_disagreement",
    "slice_entropy",
    "slice_marks",
    "summarise_class_presence",
    "summarise_classes",
    "summarise_masks",
    "summarise_presence",
    "with_kinds",
    "write_rows",
]
