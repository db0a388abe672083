from .alone import run_alone
from .data import dataset_folder, preset
from .evaluation import describe_evaluation
from .folder import find_bundle
from .processes import distributed, local_rank, rank, start_processes, stop_processes
from .running import check_overrides, check_settings, choose, given_data, root
from .settings import checkpoint_of, saved_settings, training_settings
from .teacher import provide_teacher, rehearse_distillation, teacher_settings, teacher_store

__all__ = [
    "check_overrides",
    "check_settings",
    "checkpoint_of",
    "choose",
    "dataset_folder",
    "describe_evaluation",
    "distributed",
    "find_bundle",
    "given_data",
    "local_rank",
    "preset",
    "provide_teacher",
    "rank",
    "rehearse_distillation",
    "root",
    "run_alone",
    "saved_settings",
    "start_processes",
    "stop_processes",
    "teacher_settings",
    "teacher_store",
    "training_settings",
]
