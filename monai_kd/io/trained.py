"""Weights and the settings that they were trained with: two files that belong together.

``settings.json`` lies beside ``model.pt``. In addition to the settings it has

- ``weights_sha256``: SHA-256 of the ``model.pt`` that was trained with them; ``null`` before the first save;
- ``previous``: all settings, with ``weights_sha256``, of the ``model.pt`` before, if any.

Paths in it are relative to its folder, see `monai_kd.io.places`; the functions here take and return absolute ones.

New weights are saved in two atomic steps: first ``settings.json`` is replaced by one with the hashes of the new weights
and, under ``previous``, of the old ones; then ``model.pt`` is replaced. So at any time, also after a killed run,
``settings.json`` has the settings of the weights that are on disk.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .atomic import atomic_write, write_json
from .checkpoints import check_checkpoint
from .checksum import file_sha256
from .places import absolute_places, relative_places

__all__ = [
    "FAMILIARITY_FILE",
    "FILES_OF_WEIGHTS",
    "MEASURED",
    "READER_FILE",
    "TEMPERATURE_FILE",
    "add_settings",
    "begin_settings",
    "check_of_slices",
    "copy_settings",
    "described_weights",
    "extendable_settings",
    "is_of_head",
    "learnt_classes",
    "read_settings",
    "read_trained",
    "save_trained",
    "settings_path",
]

HASH, PREVIOUS = "weights_sha256", "previous"
# Files beside weights that hold for these weights alone.
TEMPERATURE_FILE, FAMILIARITY_FILE = "temperature.json", "familiarity.safetensors"
# Settings that were measured with the weights, and hold for these alone.
MEASURED = ("operating_point", "half_precision")
# The classifier of an operating point.
READER_FILE = "classifier.safetensors"
FILES_OF_WEIGHTS = (TEMPERATURE_FILE, FAMILIARITY_FILE, READER_FILE)

# The key of a data list and of settings.json, and its values of images of heads, as DICOM writes them.
BODY_PART, HEADS = "body_part", ("HEAD", "BRAIN")

logger = logging.getLogger(__name__)


def is_of_head(settings: Mapping[str, Any]) -> bool:
    """Whether a network was trained on images of heads: what ``body_part`` says, which is a head where it is missing.

    Example:
        >>> is_of_head({}), is_of_head({"body_part": "Brain"}), is_of_head({"body_part": "CHEST"})
        (True, True, False)
    """
    part = settings.get(BODY_PART)
    return part is None or str(part).strip().upper() in HEADS


def learnt_classes(settings: Mapping[str, Any]) -> bool:
    """Whether the term ``class`` was part of the training, without which a class head stays as it began."""
    return bool((settings.get("weights") or {}).get("class"))


def settings_path(checkpoint: str | Path) -> Path:
    """The path of the settings of a checkpoint."""
    return Path(checkpoint).expanduser().parent / "settings.json"


def read_settings(path: str | Path) -> dict[str, Any]:
    """The content of a ``settings.json``, without a check of the weights beside it.

    Raises:
        ValueError: it is no JSON object.
    """
    remedy = "restore it, or delete it and give the values by hand."
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); {remedy}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is JSON, but not an object with names and values; {remedy}")
    earlier = settings.get(PREVIOUS)
    for each in (settings, {} if earlier is None else earlier):
        if not isinstance(each, dict) or not isinstance(each.get(HASH), str | None):
            raise ValueError(f"{path} does not say as text which weights it belongs to; {remedy}")
    return absolute_places(settings, Path(path).parent)


def copy_settings(source: str | Path, target: str | Path) -> None:
    """Copy a ``settings.json``, whose relative paths then lead to the same places.

    A file that can't be read as settings is copied as it is.
    """
    try:
        settings = read_settings(source)
    except ValueError:
        shutil.copy2(source, target)
    else:
        write_json(relative_places(settings, Path(target).parent), target)


def read_trained(checkpoint: str | Path) -> dict[str, Any] | None:
    """The settings that a checkpoint was trained with, ``weights_sha256`` among them; ``None`` when there are none.

    Settings without a hash, as earlier versions wrote them, are returned unchecked, which is logged as a warning.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: ``settings.json`` can't be read, or belongs to other weights.
    """
    checkpoint, path = Path(checkpoint).expanduser(), settings_path(checkpoint)
    if not path.is_file():
        return None
    check_checkpoint(checkpoint)
    settings = read_settings(path)
    if HASH not in settings:
        logger.warning(
            "%s has no hash of its weights, as written by earlier versions: whether it belongs to %s is not checked.",
            *(path, checkpoint),
        )
        return settings
    while True:
        found = file_sha256(checkpoint)
        for each in (settings, settings.get(PREVIOUS) or {}):
            if each.get(HASH) == found:
                own = {name: value for name, value in each.items() if name != PREVIOUS}
                # The hash alone: those weights never had settings.
                return own if len(own) > 1 else None
        # A running training may have replaced both files between the two reads.
        before, settings = settings, read_settings(path)
        if settings == before:
            named = settings[HASH]
            unfit = " last.ckpt is there to resume a training: give the model.pt beside it."
            raise ValueError(
                f"{path} belongs to other weights than {checkpoint}: it names the SHA-256 "
                f"{'of none yet' if named is None else named[:12] + ' …'}, and the file has {found[:12]} …. Restore "
                "the two files of one run; or, if you know what these weights were trained with, move settings.json "
                f"away and give the values by hand.{unfit if checkpoint.name == 'last.ckpt' else ''}"
            )


def check_of_slices(settings: Mapping[str, Any], checkpoint: str | Path) -> None:
    """Refuse a network of volumes where slices are expected.

    Raises:
        ValueError: the settings are those of a network of volumes.
    """
    if settings.get("volumes") is not None:
        raise ValueError(
            f"{checkpoint} is of a network of volumes, which can be evaluated, used for inference, packed and "
            "exported as docs/volumes.md says: give a network of slices."
        )


def extendable_settings(checkpoint: str | Path) -> dict[str, Any]:
    """The settings of existing weights, to which `add_settings` can add values.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: there are no settings, they can't be read, or they belong to other weights.
    """
    settings = read_trained(checkpoint)
    if settings is None:
        raise ValueError(f"{checkpoint} has no settings.json beside it, to which values could be added.")
    return settings


def add_settings(checkpoint: str | Path, values: Mapping[str, Any]) -> None:
    """Add values that were measured after the training to the settings of existing weights.

    Args:
        checkpoint: the weights, with ``settings.json`` beside them.
        values: JSON values; those of the same names are replaced.

    Raises:
        FileNotFoundError, ValueError: as `extendable_settings`.
    """
    checkpoint = Path(checkpoint).expanduser()
    settings = extendable_settings(checkpoint)
    added = {**settings, HASH: file_sha256(checkpoint), **values}
    write_json(relative_places(added, checkpoint.parent), settings_path(checkpoint))


def begin_settings(settings: Mapping[str, Any], checkpoint: str | Path) -> None:
    """Write the settings at the beginning of a run; those of existing weights are kept under ``previous``.

    Args:
        settings: JSON values.
        checkpoint: where the run will save its weights.

    Raises:
        ValueError: the settings of the existing weights can't be read, or belong to other weights.
    """
    checkpoint = Path(checkpoint)
    _write(settings, None, described_weights(checkpoint) if checkpoint.is_file() else None, checkpoint)


def save_trained(
    state: Mapping[str, torch.Tensor], checkpoint: str | Path, settings: Mapping[str, Any] | None = None
) -> None:
    """Save weights and, where they are known, the settings that they were trained with.

    Args:
        state: a bare state dict.
        checkpoint: the file.
        settings: JSON values.
    """
    checkpoint = Path(checkpoint)
    with atomic_write(checkpoint) as temporary:
        torch.save(state, temporary)
        if settings is None:
            return
        previous = None
        if checkpoint.is_file():
            try:
                previous = described_weights(checkpoint)
            except ValueError as error:
                # Changed by hand during the run, and now replaced.
                logger.warning("%s", error)
        _write(settings, file_sha256(temporary), previous, checkpoint)


def described_weights(checkpoint: str | Path) -> dict[str, Any]:
    """The settings of a checkpoint, as `read_trained`, or of one that has none the hash alone."""
    return {**(read_trained(checkpoint) or {}), HASH: file_sha256(checkpoint)}


def _write(
    settings: Mapping[str, Any], sha256: str | None, previous: Mapping[str, Any] | None, checkpoint: Path
) -> None:
    more = {} if previous is None else {PREVIOUS: previous}
    path = settings_path(checkpoint)
    write_json(relative_places({**settings, HASH: sha256, **more}, path.parent), path)
