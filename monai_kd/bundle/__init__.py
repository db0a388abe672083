"""Functions and classes that the configs of the bundles use under the name ``kd``."""

from .. import losses
from ..config import build_network, check_settings, keep_freed_memory
from ..evaluation.describe import describe_evaluation
from ..handlers import not_worse, validation_metrics
from ..io.trained import is_of_head
from .alone import run_alone
from .data import cache_folder, dataset_folder, made_negatives, mask_values, preset
from .distillation import Distillation, learns_unlabelled, needs_teacher, others_learn_unlabelled, recipe_title
from .evaluated import evaluated_network, evaluated_settings
from .familiarity import familiarity_of
from .folder import find_bundle
from .overrides import accept_overrides
from .precision import amp_by_default, amp_in_training
from .processes import distributed, local_rank, rank, start_processes, stop_processes
from .released import checkpoint_of, training_folder
from .running import choose, definition, described, given_data, normalization, recorded, root, unbuilt
from .second_reader import second_reader
from .set_up import set_up
from .teacher import Teacher
from .teacher_settings import normalization_steps
from .temperature import temperature_of
from .tracking import loss_of, tracked
from .trained import trained_network, trained_settings
from .volumes import volume_settings
from .workflow import Workflow

__all__ = [
    "Distillation",
    "Teacher",
    "Workflow",
    "accept_overrides",
    "amp_by_default",
    "amp_in_training",
    "build_network",
    "cache_folder",
    "check_settings",
    "checkpoint_of",
    "choose",
    "dataset_folder",
    "definition",
    "describe_evaluation",
    "described",
    "distributed",
    "evaluated_network",
    "evaluated_settings",
    "familiarity_of",
    "find_bundle",
    "given_data",
    "is_of_head",
    "keep_freed_memory",
    "learns_unlabelled",
    "local_rank",
    "loss_of",
    "losses",
    "made_negatives",
    "mask_values",
    "needs_teacher",
    "normalization",
    "normalization_steps",
    "not_worse",
    "others_learn_unlabelled",
    "preset",
    "rank",
    "recipe_title",
    "recorded",
    "root",
    "run_alone",
    "second_reader",
    "set_up",
    "start_processes",
    "stop_processes",
    "temperature_of",
    "tracked",
    "trained_network",
    "trained_settings",
    "training_folder",
    "unbuilt",
    "validation_metrics",
    "volume_settings",
]
