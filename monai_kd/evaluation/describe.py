"""What was evaluated, logged and kept beside the numbers."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..data import find_leaks, placed, read_datalist
from ..io.checksum import file_sha256
from ..io.folders import same_folder

__all__ = ["describe_evaluation"]

logger = logging.getLogger(__name__)

_PACKAGES = ("monai_kd", "monai", "torch", "numpy", "scipy", "nibabel", "timm")


def describe_evaluation(
    checkpoint: str | Path,
    data_dir: str | Path,
    data: Sequence[Mapping[str, Any]],
    part: str,
    fold: int,
    leave_out: Sequence[int],
    trained: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Say which slices are evaluated and what must be known to read the numbers; return it for ``metrics.json``.

    Warned of: synthetic slices; a checkpoint trained on another data set; slices that the checkpoint, or the teacher
    of a student, was trained on; patients and images that it was trained on by way of other slices.

    Args:
        checkpoint: the weights.
        data_dir: folder of the data set, absolute.
        data: entries of the data list that are evaluated.
        part: ``"validation"`` or ``"all"``.
        fold: the evaluated fold, for ``"validation"``.
        leave_out: folds without part in it.
        trained: ``dataset_dir``, ``fold`` and ``leave_out`` of the training, ``dataset_dir`` and ``fold`` ``None``
            where not known; of a student also those of its ``teacher``, or ``None``.
        settings: other values, kept as they are.

    Returns:
        ``synthetic``, ``notes`` (the warnings), ``dataset``, ``checkpoint`` (path, SHA-256, what it was trained on),
        ``settings`` and ``versions``.
    """
    datalist = read_datalist(data_dir, allow_outside=True)
    # A data list that does not say so is not known to be synthetic: those that data_prep makes always say.
    synthetic = bool(datalist.get("synthetic", False))
    notes = []
    if synthetic:
        notes.append("SYNTHETIC phantom slices: these numbers say nothing about images of patients.")
    if trained["dataset_dir"] is not None and not same_folder(trained["dataset_dir"], data_dir):
        notes.append(f"The checkpoint was trained on {trained['dataset_dir']}, and is evaluated on {data_dir}.")
    by_itself, by_teacher = (_trained_on(run, data_dir) for run in (trained, trained.get("teacher") or {}))
    if seen := sum(map(by_itself, data)):
        notes.append(f"{seen} of the {len(data)} slices were TRAINED ON: these numbers are better than on new ones.")
    if taught := sum(by_teacher(entry) and not by_itself(entry) for entry in data):
        notes.append(
            f"{taught} of the {len(data)} slices were TRAINED ON BY THE TEACHER of this checkpoint: through it, these "
            "numbers are better than on new ones."
        )
    unknown = trained["dataset_dir"] is None and trained["fold"] is None
    if unknown and part == "validation":
        by_itself = _trained_on({"fold": fold, "leave_out": leave_out}, data_dir)
    leaks = _leaks(datalist["training"], data, data_dir, lambda entry: by_itself(entry) or by_teacher(entry))
    consequence = "This leak makes their numbers better than on new patients"
    condition = ", if the checkpoint was trained on the other folds, which is not known" if unknown else ""
    notes += [f"{leak} {consequence}{condition}." for leak in leaks]
    for note in notes:
        logger.warning(note)
    if part != "validation":
        which = "all slices" + (f" without the folds {list(leave_out)}" if leave_out else "")
    elif trained["fold"] is None:
        which = f"fold {fold} (which fold the checkpoint was trained without is not known)"
    elif trained["fold"] == fold:
        which = f"fold {fold}, which validated when the checkpoint was trained"
    else:
        which = f"fold {fold} (when the checkpoint was trained, fold {trained['fold']} validated)"
    logger.info("evaluating %s: %d slices of %s", which, len(data), data_dir)
    return {
        "synthetic": synthetic,
        "notes": notes,
        "dataset": {
            "folder": str(data_dir),
            "name": datalist.get("name"),
            "datalist_sha256": file_sha256(Path(data_dir) / "datalist.json"),
            "part": part,
            "fold": fold if part == "validation" else None,
            "leave_out": list(leave_out),
        },
        "checkpoint": {
            "path": str(Path(checkpoint).expanduser().resolve()),
            "sha256": file_sha256(Path(checkpoint).expanduser()),
            "trained": {name: trained[name] for name in ("dataset_dir", "fold", "leave_out")},
        },
        "settings": dict(settings),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def _trained_on(trained: Mapping[str, Any], data_dir: str | Path) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an entry is known to be among those that a network was trained on."""
    folder, fold = trained.get("dataset_dir"), trained.get("fold")
    if fold is None or (folder is not None and not same_folder(folder, data_dir)):
        return lambda entry: False
    unseen = {fold, *trained.get("leave_out", [])}
    return lambda entry: entry["fold"] not in unseen


def _leaks(
    entries: Sequence[Mapping[str, Any]],
    data: Sequence[Mapping[str, Any]],
    data_dir: str | Path,
    seen: Callable[[Mapping[str, Any]], bool],
) -> list[str]:
    """`find_leaks` between evaluated slices that were not trained on and those of the data list that were."""
    trained = [{**entry, "image": placed(data_dir, entry["image"])} for entry in filter(seen, entries)]
    return find_leaks(trained, [entry for entry in data if not seen(entry)])
