"""Description of what is evaluated, for the log and for ``metrics.json``."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..config.checks import EXPECTED_DICE
from ..data import (
    data_known,
    datalist_path,
    find_leaks,
    is_labelled,
    is_negative,
    placed,
    read_datalist,
    same_data,
    trainings,
)
from ..io.checksum import file_sha256

__all__ = ["describe_evaluation"]

logger = logging.getLogger(__name__)

# What is read from settings.json, and given a value here by a config that refers to it.
FIXED = ("image_size", "multiclass")
_PACKAGES = ("monai", "torch", "numpy", "scipy", "nibabel", "timm")


def describe_evaluation(
    checkpoint: str | Path,
    data_dir: str | Path,
    data: Sequence[Mapping[str, Any]],
    part: str,
    fold: int,
    leave_out: Sequence[int],
    trained: Mapping[str, Any],
    settings: Mapping[str, Any],
    of: str = "slices",
) -> dict[str, Any]:
    """Log which slices are evaluated, with warnings about the metrics, and return a description for ``metrics.json``.

    Warnings are logged for synthetic slices; for masks of the highest expected Dice on slices without a tumour; for a
    checkpoint that was trained on another data set, or on one that is not known; for slices that the checkpoint, or the
    teacher of a student, was trained on; and for slices with patients or images that are also among the training
    slices.

    Args:
        checkpoint: the weights.
        data_dir: absolute path of the data set folder.
        data: entries of the data list that are evaluated.
        part: ``"validation"`` or ``"all"``.
        fold: the evaluated fold, for ``"validation"``.
        leave_out: folds that are not evaluated.
        trained: ``dataset_dir``, ``fold`` and ``leave_out`` of the training, where ``dataset_dir`` and ``fold`` are
            ``None`` if they are not known; for a student also ``teacher``, with the same three, or ``None``; for an
            ensemble ``ensemble_of``, see `monai_kd.data.trainings`.
        settings: other values, which are returned unchanged.
        of: what ``data`` are, ``"slices"`` or ``"volumes"``, for messages.

    Raises:
        ValueError: a value of ``settings`` is another than that of the training, which can't be changed.

    Returns:
        ``synthetic``, ``notes`` (the warnings), ``dataset``, ``checkpoint`` (path, SHA-256, training data),
        ``settings`` and ``versions``.
    """
    for name in FIXED:
        if name in settings and name in trained and settings[name] != trained[name]:
            raise ValueError(
                f"--{name} {settings[name]} is no option: the network was trained with {name} {trained[name]}, and its "
                "settings.json says so."
            )
    datalist = read_datalist(data_dir, allow_outside=True)
    # Data lists of data_prep always have "synthetic"; others without it are taken for real slices.
    synthetic = bool(datalist.get("synthetic", False))
    notes = []
    if synthetic:
        notes.append("SYNTHETIC phantoms: these metrics say nothing about images of patients.")
    empty = settings.get("negative_share") or any(map(is_negative, data))
    if settings.get("threshold") == EXPECTED_DICE and empty:
        notes.append(
            f"The masks are those of {EXPECTED_DICE}, which are hardly ever empty: how many slices without a tumour "
            "are marked is to be read at the operating point, not without a rule."
        )
    runs = trainings(trained)
    known = list(filter(data_known, runs))
    here = [run for run in known if same_data(run, data_dir)]
    if len(here) < len(known):
        # Networks of an ensemble may be of several data sets.
        where, also = trained["dataset_dir"] or "another data set", " also" if here else ""
        notes.append(f"The checkpoint was{also} trained on {where}, and is evaluated on {data_dir}.")
    if len(known) < len(runs):
        what = "the checkpoint" if len(runs) == 1 else "one of its networks or more"
        notes.append(f"What {what} was trained on is not known: metrics are better on {of} that were seen.")
    by_itself = _trained_on(runs, data_dir)
    by_teacher = _trained_on([each for run in runs for each in trainings(run.get("teacher") or {})], data_dir)
    if seen := sum(map(by_itself, data)):
        notes.append(f"{seen} of the {len(data)} {of} were TRAINED ON: these metrics are better than on new {of}.")
    if taught := sum(by_teacher(entry) and not by_itself(entry) for entry in data):
        notes.append(
            f"The teacher of this checkpoint was TRAINED ON {taught} of the {len(data)} {of}: through the teacher, "
            f"these metrics are better than on new {of}."
        )
    unknown = len(known) < len(runs) and trained["fold"] is None
    if unknown and part == "validation":
        by_itself = _trained_on([*runs, {"fold": fold, "leave_out": leave_out}], data_dir)
    leaks = _leaks(datalist["training"], data, data_dir, lambda entry: by_itself(entry) or by_teacher(entry))
    consequence = "Because of this leak, metrics on them are better than on new patients"
    condition = ", if the checkpoint was trained on the other folds, which is not known" if unknown else ""
    notes += [f"{leak} {consequence}{condition}." for leak in leaks]
    for note in notes:
        logger.warning(note)
    if part != "validation":
        which = f"all {of}" + (f" without the folds {list(leave_out)}" if leave_out else "")
    elif trained["fold"] is None:
        none = "the training had no validation fold" if data_known(trained) else "that of the training is not known"
        which = f"fold {fold} ({none})"
    elif trained["fold"] == fold:
        which = f"fold {fold}, the validation fold of the training"
    else:
        which = f"fold {fold} (the validation fold of the training was {trained['fold']})"
    logger.info("evaluating %s: %d %s of %s", which, len(data), of, data_dir)
    return {
        "synthetic": synthetic,
        "notes": notes,
        "dataset": {
            "folder": str(data_dir),
            "name": datalist.get("name"),
            "datalist_sha256": file_sha256(datalist_path(data_dir)),
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
        "versions": {
            **{"python": platform.python_version(), "monai_kd": __version__},
            **{name: version(name) for name in _PACKAGES},
        },
    }


def _trained_on(runs: Sequence[Mapping[str, Any]], data_dir: str | Path) -> Callable[[Mapping[str, Any]], bool]:
    """A function that returns whether a network is known to be trained on an entry, in one of several trainings."""
    # Folds that were not trained on, without a fold none; and whether there was a teacher: without one, images that
    # have no label are left out.
    found = [
        ({run.get("fold"), *run.get("leave_out", [])}, run.get("teacher") is not None)
        for run in runs
        if (same_data(run, data_dir) if data_known(run) else run.get("fold") is not None)
    ]
    return lambda entry: any(entry["fold"] not in unseen and (taught or is_labelled(entry)) for unseen, taught in found)


def _leaks(
    entries: Sequence[Mapping[str, Any]],
    data: Sequence[Mapping[str, Any]],
    data_dir: str | Path,
    seen: Callable[[Mapping[str, Any]], bool],
) -> list[str]:
    """`find_leaks` between training slices of the data list and evaluated slices that are not training slices."""
    trained = [{**entry, "image": placed(data_dir, entry["image"])} for entry in filter(seen, entries)]
    return find_leaks(trained, [entry for entry in data if not seen(entry)])
