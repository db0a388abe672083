"""The teacher of a distillation: loaded from its checkpoint, or trained first, said aloud."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from monai.bundle import ConfigWorkflow, create_workflow
from torch import nn

from ..data import class_names
from ..distillation import FeatureTaps, TeacherStore
from ..io.checkpoints import load_weights, read_checkpoint
from ..losses import Projections
from .data import same_folder
from .processes import in_processes
from .settings import training_settings

__all__ = ["provide_teacher", "rehearse_distillation", "teacher_settings", "teacher_store"]

logger = logging.getLogger(__name__)

# What a student's settings.json keeps of its teacher.
_KEPT = (
    *("dataset_dir", "fold", "leave_out", "epochs", "learning_rate", "image_size"),
    *("features", "norm", "vit_name", "vit_image_size", "backbones"),
)


def provide_teacher(
    build: Callable[[], nn.Module],
    checkpoint: str | None,
    needed: bool,
    bundle: str,
    overrides: Mapping[str, Any],
    output_dir: str,
    rehearse: Callable[[nn.Module], object] | None = None,
) -> nn.Module | None:
    """Build the teacher and load its weights; train it first when no checkpoint is given.

    Warned of: a teacher that was trained on slices which validate the student or are left out of its training.

    Args:
        build: makes the network, without arguments.
        checkpoint: its weights; ``None`` trains the teacher once by the teacher's bundle, on the same data, into
            ``<output_dir>/teacher-<fingerprint of the settings and the data>/``.
        needed: whether any loss term listens to a teacher; if not, there is none.
        bundle: folder of the teacher's bundle.
        overrides: settings for its training; data set and folds are those of the student.
        output_dir: folder of the student's run.
        rehearse: called with the network before it is trained: what it raises costs no training. See
            `rehearse_distillation`.

    Raises:
        FileNotFoundError: a checkpoint was given and is not there, or the teacher's bundle is not.
        ValueError: the checkpoint does not fit the network, or was trained for other classes than those of the data.
    """
    if not needed:
        if checkpoint is not None:
            logger.warning("teacher_checkpoint %s is not used: this recipe has no teacher.", checkpoint)
        return None
    if checkpoint is None:
        if rehearse is not None:
            rehearse(build())
        checkpoint = str(_trained_teacher(bundle, overrides, output_dir))
    elif Path(checkpoint).expanduser().is_file():
        trained = training_settings(checkpoint) or {}
        _check_classes(checkpoint, trained, overrides["dataset_dir"])
        _warn_of_leaks(checkpoint, trained, overrides)
    logger.info("teacher: %s", checkpoint)
    return load_weights(build(), checkpoint)


def rehearse_distillation(
    student: nn.Module,
    teacher: nn.Module,
    student_taps: Mapping[str, str],
    teacher_taps: Mapping[str, str],
    projections: Projections,
    image_size: int,
) -> None:
    """Find out on black images, on the CPU, whether the taps are there and their channels are those of the projections.

    Args:
        student: left as it is.
        teacher: made for this; it need not be trained.
        student_taps, teacher_taps: as for `Distiller`.
        projections: left as they are.
        image_size: side of the images, in pixels.

    Raises:
        ValueError, TypeError, RuntimeError: a tap is not there, or gives what can't be compared.
    """
    pair = (copy.deepcopy(student).cpu().eval(), teacher.cpu().eval())
    taps = [FeatureTaps(network, paths) for network, paths in zip(pair, (student_taps, teacher_taps), strict=True)]
    with torch.no_grad():
        for network in pair:
            network(torch.zeros(2, 3, image_size, image_size))
        copy.deepcopy(projections).cpu()(*(each.take() for each in taps))


def teacher_settings(
    checkpoint: str | None, needed: bool, overrides: Mapping[str, Any], output_dir: str
) -> dict[str, Any] | None:
    """Who teaches, for the student's ``settings.json``; of a teacher that is trained first, who will have taught.

    Args:
        checkpoint, needed, overrides, output_dir: as for `provide_teacher`.

    Returns:
        ``checkpoint``, absolute, and what is known of ``dataset_dir``, ``fold``, ``leave_out``, ``epochs``,
        ``learning_rate`` and the network; ``None`` when nobody teaches.
    """
    if not needed:
        return None
    if checkpoint is None:
        path, values = _folder(overrides, output_dir) / "model.pt", overrides
    else:
        path, values = Path(checkpoint).expanduser(), training_settings(checkpoint) or {}
    return {"checkpoint": str(path.resolve()), **{name: values[name] for name in _KEPT if name in values}}


def teacher_store(folder: str | None, images_never_repeat: bool) -> TeacherStore | None:
    """Where the teacher's outputs are kept between epochs and runs; nowhere without a folder.

    Args:
        folder: of a `TeacherStore`, or ``None``.
        images_never_repeat: whether random augmentation makes every image a new one.

    Raises:
        ValueError: a folder is given and images never repeat: it would fill the disk and never be read.
    """
    if folder is None:
        return None
    if images_never_repeat:
        raise ValueError(
            "teacher_store keeps what the teacher says of each image, and with `augmentation` or `mixup` no image "
            "comes twice: leave teacher_store at null, or train with flips alone."
        )
    logger.info("teacher_store: outputs of the teacher are kept in %s; delete it when no run needs it.", folder)
    return TeacherStore(folder)


def _check_classes(checkpoint: str, trained: Mapping[str, Any], dataset_dir: str) -> None:
    """In another order the same number of classes would load, and teach the wrong ones."""
    theirs = trained.get("class_names")
    if theirs is not None and list(theirs) != (own := class_names(dataset_dir)):
        raise ValueError(
            f"teacher_checkpoint {checkpoint} was trained for the classes {', '.join(theirs)}, and {dataset_dir} has "
            f"{', '.join(own)}: give a teacher of these classes in this order."
        )


def _warn_of_leaks(checkpoint: str, trained: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    folder, fold = trained.get("dataset_dir"), trained.get("fold")
    if overrides["dataset_dir"] is None:
        # Slices given one by one, by who labels them: nobody reports their numbers.
        return
    if folder is None or fold is None:
        logger.warning(
            "What the teacher %s was trained on is not known: if it saw slices that validate the student, the "
            "student's numbers are better than on new ones.",
            checkpoint,
        )
    elif not same_folder(folder, overrides["dataset_dir"]):
        logger.warning(
            "The teacher was trained on %s, the student is on %s: if the teacher saw patients that validate the "
            "student, the student's numbers are better than on new ones.",
            folder,
            overrides["dataset_dir"],
        )
    elif seen := sorted({overrides["fold"], *overrides["leave_out"]} - {fold, *trained.get("leave_out", [])}):
        logger.warning(
            "The teacher was TRAINED ON the folds %s, which the student is kept from: through it they leak into the "
            "student, whose numbers on them are better than on new slices. Take a teacher trained with the same "
            "`fold` and `leave_out`.",
            seen,
        )


def _folder(overrides: Mapping[str, Any], output_dir: str) -> Path:
    """Where a teacher is trained, named after its settings and its data."""
    return Path(output_dir) / f"teacher-{_fingerprint(overrides)}"


def _fingerprint(overrides: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that tell with which settings, and on which data, a teacher is trained."""
    # Not on which device: of several processes, each has its own.
    told = {name: value for name, value in overrides.items() if name != "device"}
    data = (Path(overrides["dataset_dir"]) / "datalist.json").read_bytes()
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=_plain).encode() + data).hexdigest()[:10]


def _plain(value: Any) -> Any:
    """A transform, say, by its class and parameters: its ``repr`` holds an address, which differs in every run."""
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if not hasattr(value, "__dict__"):
        return str(value)
    parameters = {k: v for k, v in vars(value).items() if not isinstance(v, np.random.RandomState)}
    return [type(value).__qualname__, parameters]


def _trained_teacher(bundle: str, overrides: Mapping[str, Any], output_dir: str) -> Path:
    config = Path(bundle) / "configs" / "train.json"
    if not config.is_file():
        raise FileNotFoundError(
            f"no teacher_checkpoint was given, and the teacher's bundle is not in {Path(bundle).resolve()}: give "
            "--teacher_checkpoint FILE, or --teacher_bundle FOLDER."
        )
    folder = _folder(overrides, output_dir)
    best, last = folder / "model.pt", folder / "last.ckpt"
    done = read_checkpoint(last)["epoch"] if last.is_file() else 0
    if done >= overrides["epochs"] and best.is_file():
        # Raises where these are not the weights that were trained here.
        training_settings(best)
        logger.warning("No teacher_checkpoint was given: using the teacher trained earlier in %s.", folder)
        return best
    logger.warning(
        "No teacher_checkpoint was given: training the teacher FIRST, once, on the same data (%s), into %s.",
        overrides["dataset_dir"],
        folder,
    )
    workflow: ConfigWorkflow = create_workflow(
        config_file=[str(config), str(config.with_name("multi_gpu_train.json"))] if in_processes() else str(config),
        workflow_type="train",
        logging_file=False,
        output_dir=str(folder),
        # One that has run all its epochs, and whose weights are lost, can't be gone on with.
        resume=0 < done < overrides["epochs"],
        **overrides,
    )
    workflow.run()
    if in_processes():
        # The first process has written the checkpoint when it gets here. Finalizing would end the group.
        dist.barrier()
    else:
        workflow.finalize()
    logger.warning("The teacher is trained: %s. Now the student.", best)
    return best
