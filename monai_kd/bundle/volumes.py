"""How a network of volumes reads them, by its settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import modalities, region_values
from ..transforms import NORMALIZATION_OF_VOLUMES, checked_normalization

__all__ = ["check_same_voxels", "volume_settings"]

logger = logging.getLogger(__name__)

# Which must be equal for student and teacher.
_READ = ("modalities", "orientation", "spacing", "normalization")


def volume_settings(settings: Mapping[str, Any], dataset_dir: str | Path | None = None) -> dict[str, Any]:
    """The part of `trained_settings` that describes the input of a network of volumes.

    Args:
        settings: of the weights.
        dataset_dir: whose regions are taken where there are none, as of a network that a config describes.

    Returns:
        ``modalities`` (names of the channels), ``orientation``, ``spacing`` and ``normalization``, see
        `monai_kd.transforms.volume_preprocessing`, and ``regions``, see `monai_kd.transforms.RegionMasks`.

    Raises:
        ValueError: the network was trained on slices, a value is missing, the normalisation is none, or the data set
            has the same channels in another order.
    """
    volumes = settings.get("volumes")
    if volumes is None:
        raise ValueError(
            "checkpoint: it was trained on slices, not on volumes: leave out the config of volumes; or, of a network "
            "that teacher_settings describes, give its volumes there."
        )
    if "regions" not in volumes and dataset_dir is not None:
        volumes = {**volumes, "regions": region_values(dataset_dir)}
    if dataset_dir is not None and "modalities" in volumes:
        _check_modalities(list(volumes["modalities"]), modalities(dataset_dir), dataset_dir)
    if lacking := [name for name in ("modalities", "orientation", "spacing", "regions") if name not in volumes]:
        raise ValueError(
            f"volumes, of settings.json or teacher_settings, has no {lacking[0]}: restore the file and train again, or "
            "describe it."
        )
    try:
        return _with_normalization(volumes)
    except ValueError as error:
        raise ValueError(f"volumes, of settings.json or teacher_settings: {error}") from None


def _check_modalities(trained: list[str], listed: list[str], dataset_dir: str | Path) -> None:
    """Refuse the same channels in another order; other names may mean the same."""
    both = [[name.lower() for name in names] for names in (trained, listed)]
    if both[0] == both[1] or len(trained) == 1:
        return
    said = f"the network takes the channels {', '.join(trained)}, and {dataset_dir} has {', '.join(listed)}"
    if sorted(both[0]) == sorted(both[1]):
        raise ValueError(f"{said}: bring modality and the images of the data list into the order of the network.")
    logger.warning("%s: if these are not the same, in this order, the masks mean nothing.", said)


def check_same_voxels(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> None:
    """Refuse a teacher that was trained on other voxels: it would load without an error."""
    if "volumes" not in teacher:
        if student.get("volumes"):
            raise ValueError("teacher_settings lacks volumes, which says how the teacher's volumes are read.")
        return
    volumes, teacher_volumes = (
        _with_normalization(read) if (read := each.get("volumes")) else None for each in (student, teacher)
    )
    pairs = [(name, (volumes or {}).get(name), (teacher_volumes or {}).get(name)) for name in _READ]
    if bool(volumes) != bool(teacher_volumes):
        pairs.insert(0, ("volumes", volumes, teacher_volumes))
    for name, value, teacher_value in pairs:
        if value != teacher_value:
            raise ValueError(
                f"the student is trained with {name} {value}, and the teacher was trained with {teacher_value}: both "
                "must have the same input. Take a teacher of the same task, or set the value to the teacher's."
            )
    regions, of_teacher = ((each or {}).get("regions") for each in (volumes, teacher_volumes))
    if of_teacher is not None and regions != of_teacher:
        logger.warning(
            "The masks of the student are %s, by the values in its labels, and those of the teacher %s: if these are "
            "not the same tissues, stored by other values, the teacher teaches other masks than the labels do.",
            *(regions, of_teacher),
        )


def _with_normalization(volumes: Mapping[str, Any]) -> dict[str, Any]:
    """Earlier versions had one normalisation alone, and so have settings without."""
    return {**volumes, "normalization": checked_normalization(volumes.get("normalization", NORMALIZATION_OF_VOLUMES))}
