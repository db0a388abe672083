"""The settings of a teacher that a config describes: a network that no bundle of this package has trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Lambdad

from ..config.definition import build_component
from ..io.checkpoints import check_checkpoint
from ..io.checksum import file_sha256
from ..io.trained import HASH, read_trained
from .trained import BEFORE, NORMALIZATION, VALID, trained_settings

__all__ = [
    "NORMALIZATION",
    "described_settings",
    "normalization_of",
    "normalization_steps",
]

logger = logging.getLogger(__name__)

# Of the values that a normalisation makes of an image from 0 to 1. A window of raw values makes a thousandth.
LEAST_SPREAD = 0.05
_IN_VOLUMES = ("modalities", "orientation", "spacing", NORMALIZATION)
# What a teacher's outputs mean, by which it is compared with the student.
MEANING = ("mask_names", "activation", "class_names")
_KNOWN = (
    *("network_def", "image_size", "in_channels", "spatial_dims", "mean", "std", NORMALIZATION),
    *("taps", "volumes", "multiclass", *MEANING),
)


def described_settings(checkpoint: str | Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a teacher's weights, with those that ``teacher_settings`` of a student's config describes.

    They replace what stands in the ``settings.json`` beside the weights. Where there is none, ``network_def``,
    ``image_size``, ``in_channels``, and ``mean`` and ``std`` or ``normalization`` are needed; what its masks or classes
    are is compared with the student only where it is described.

    Args:
        checkpoint: the weights.
        described: plain values. ``network_def`` may be of any class, since it stands in a config; ``normalization`` is
            the definition of a transform of an image, see `monai_kd.distillation.AdaptInput`.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: a name is unknown, a value is needed and missing, or is not what it should be.
    """
    path = Path(checkpoint).expanduser()
    check_checkpoint(path)
    if unknown := sorted(described.keys() - set(_KNOWN)):
        raise ValueError(f"teacher_settings has {', '.join(unknown)}; a teacher is described by {', '.join(_KNOWN)}.")
    for name, value in described.items():
        if name in VALID and not VALID[name](value):
            raise ValueError(f"teacher_settings#{name} is {value!r}, which is not a valid value.")
    scaled = normalization_of(described) is not None
    # A transform takes the place of the constants.
    given = {**described, **({"mean": None, "std": None} if scaled else {})}
    if read_trained(path) is not None:
        settings = {**trained_settings(path), **given}
        return _of_volumes(settings) if settings["volumes"] else settings
    given = _of_volumes(given) if given.get("volumes") else given
    if described.get("volumes") and any(described.get(name) is not None for name in ("mean", "std")):
        raise ValueError("teacher_settings#mean and std are of slices: volumes have volumes#normalization.")
    needed = ["network_def", "image_size", "in_channels", *(() if scaled else ("mean", "std"))]
    if "volumes" not in given and (given.get("spatial_dims") == 3 or isinstance(given.get("image_size"), list)):
        raise ValueError(f"teacher_settings lacks volumes, with {', '.join(_IN_VOLUMES)}, see docs/volumes.md.")
    if lacking := [name for name in needed if name not in given]:
        raise ValueError(
            f"teacher_settings lacks {', '.join(lacking)}, which no settings.json beside {path} tells; in place of "
            f"mean and std, {NORMALIZATION} may be the transform of the teacher's own preprocessing."
        )
    if len(half := {"mask_names", "activation"} & given.keys()) == 1:
        (lacking_half,) = {"mask_names", "activation"} - half
        raise ValueError(
            f"teacher_settings has {half.pop()} and no {lacking_half}, which no settings.json beside {path} tells: "
            "only both say what its masks are."
        )
    if not any(name in given for name in MEANING):
        logger.warning(
            "teacher_settings tells neither mask_names and activation nor class_names: whether the outputs of the "
            "teacher %s mean the same as those of the student is NOT checked.",
            path,
        )
    before = {name: value for name, value in BEFORE.items() if name not in (*MEANING, "volumes")}
    return {**before, **given, HASH: file_sha256(path)}


def _of_volumes(described: Mapping[str, Any]) -> dict[str, Any]:
    """With what follows for a network of volumes, whose values are set as the student's are.

    Raises:
        ValueError: what says how volumes are read is missing, or stands where that of slices does.
    """
    if described.get(NORMALIZATION) is not None:
        raise ValueError(
            f"teacher_settings#{NORMALIZATION} is of slices: give that of volumes, which the student has too, as "
            f"teacher_settings#volumes#{NORMALIZATION}."
        )
    # Of a run of an earlier version, that has the one that it had.
    known = () if described.get(HASH) else _IN_VOLUMES
    if lacking := [name for name in known if name not in described["volumes"]]:
        raise ValueError(
            f"teacher_settings#volumes lacks {', '.join(lacking)}: give those of the teacher's own preprocessing, see "
            "docs/volumes.md."
        )
    if known and (unknown := sorted(described["volumes"].keys() - {*_IN_VOLUMES, "regions"})):
        raise ValueError(
            f"teacher_settings#volumes has {', '.join(unknown)}; it takes {', '.join(_IN_VOLUMES)} and regions."
        )
    size = described.get("image_size")
    axes = {"spatial_dims": len(size)} if isinstance(size, list) else {}
    return {"mean": None, "std": None, **axes, **described}


def normalization_steps(settings: Mapping[str, Any]) -> list[Lambdad]:
    """What is appended to the preprocessing of the image for `evaluated_settings`: nothing, or the ``normalization``.

    Raises:
        ValueError: as `normalization_of`.
    """
    transform = normalization_of(settings)
    return [] if transform is None else [Lambdad("image", transform, track_meta=False)]


def normalization_of(settings: Mapping[str, Any]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The transform by which a teacher's own preprocessing sets the values of an image, where settings describe one.

    Raises:
        ValueError: it can't be built, is no transform of an image, or makes nearly one value of one from 0 to 1.
    """
    if settings.get(NORMALIZATION) is None:
        return None
    transform = build_component(settings[NORMALIZATION], f"teacher_settings#{NORMALIZATION}")
    if not callable(transform):
        raise ValueError(f"teacher_settings#{NORMALIZATION} is no transform: it can't be called with an image.")
    ramp = torch.linspace(0, 1, 64).reshape(1, 8, 8).repeat(settings.get("in_channels") or 1, 1, 1)
    try:
        found = torch.as_tensor(transform(ramp))
    except Exception as error:  # of any library
        name = type(transform).__name__
        raise ValueError(
            f"teacher_settings#{NORMALIZATION}: {name} fails on an image as a tensor {tuple(ramp.shape)} (channels and "
            f"spatial axes) of values from 0 to 1 ({type(error).__name__}: {error}). Give a transform of an image, not "
            "of a dictionary: NormalizeIntensity, not NormalizeIntensityd with keys."
        ) from None
    if float(found.max() - found.min()) < LEAST_SPREAD:
        ends = f"{float(found.min()):.4g} to {float(found.max()):.4g}"
        raise ValueError(
            f"teacher_settings#{NORMALIZATION} makes values from {ends} of an image from 0 to 1, which is what it "
            "gets: a transform that takes raw values, such as a window of a CT, can't be used for slices, see "
            "docs/training.md."
        )
    return transform
