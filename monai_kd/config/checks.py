"""Checks of the named settings of a config, and of the names of overrides."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pydoc import ErrorDuringImport, locate
from typing import Any, cast

from monai.bundle import ConfigComponent, ConfigParser

from ..near_names import near_names

__all__ = [
    *(
        "CHECKED",
        "EXPECTED_DICE",
        "check_overrides",
        "check_settings",
        "is_axes",
        "is_number",
        "is_referred_to",
        "refuse_unknown",
    ),
    "unused_ids",
]

# In place of a threshold on the probability, see `monai_kd.inference.DecideMaskd`.
EXPECTED_DICE = "expected_dice"


def refuse_unknown(names: Iterable[str], known: ConfigParser, config_file: Any) -> None:
    """Check that names of overrides are ids of a config, or further arguments of its objects.

    Raises:
        ValueError: some are not; the message lists them, with the nearest known ids.
    """
    unknown = [name for name in names if name not in known and not _is_argument(name, known)]
    if not unknown:
        return
    hints = [f"--{name}{_near(name, known)}" for name in unknown]
    nested = any("#" in name or "::" in name for name in unknown)
    raise ValueError(
        f"unknown override: {', '.join(hints)}. The config {config_file} has no such id"
        f"{', and no object that takes it as an argument: set it in a file that is laid over the config' * nested}."
    )


def _is_argument(name: str, known: ConfigParser) -> bool:
    """Whether an id is that of an argument which an object of the config takes, and has not been given."""
    id, _, argument = name.replace("::", "#").rpartition("#")
    definition = known.get(id) if id and id in known else None
    if not isinstance(definition, Mapping) or not isinstance(definition.get("_target_"), str):
        return False
    target = ConfigComponent(dict(definition)).resolve_module_name()
    try:
        found = locate(target) if isinstance(target, str) else target
        return found is not None and argument in inspect.signature(cast(Callable[..., Any], found)).parameters
    # What can't be imported is reported by `check_targets`; some classes that are written in C have no signature.
    except (ErrorDuringImport, TypeError, ValueError):
        return False


def check_overrides(overrides: Mapping[str, Any], known: ConfigParser, config_file: Any) -> None:
    """Check that overrides are ids of a config, and that no plain text or number takes the place of an object.

    Raises:
        ValueError: as `refuse_unknown`; or a plain value does, the message lists the nearest ids that take one.
    """
    refuse_unknown(overrides, known, config_file)
    for name, value in overrides.items():
        if _is_plain(value) and _is_component(known.get(name)):
            raise ValueError(
                f"--{name}: {value!r} can't take the place of the {known[name]['_target_']} of {config_file}: give an "
                f"expression that begins with $, a reference that begins with @, or a definition{_near(name, known)}."
            )


def unused_ids(config_files: Sequence[str], known: ConfigParser) -> list[str]:
    """Ids of files that are laid over a config which have no effect: no earlier file has them, and none refers to them.

    Args:
        config_files: of which later ones override earlier ones.
        known: parser of all of them.

    Returns:
        For each a sentence, with the nearest known ids.
    """
    contents = [ConfigParser.load_config_file(file) for file in config_files]
    referred = " ".join(map(str, contents))
    before, found = set[str](), list[str]()
    for file, content in zip(config_files, contents, strict=True):
        names = {str(key).lstrip("+").partition("#")[0] for key in content}
        for name in sorted(names - before) if before else ():
            # A list of expressions is a run of one's own, which the command line may name.
            runs = isinstance(value := content.get(name), list) and any(str(each).startswith("$") for each in value)
            if not (name.startswith("_") or runs or is_referred_to(name, referred)):
                found.append(f"{name} in {file} has NO effect: nothing refers to it{_near(name, known)}.")
        before |= names
    return found


def is_referred_to(name: str, text: str) -> bool:
    """Whether the text of a config refers to its item ``name``; to stand there as a key is no reference."""
    return re.search(rf"[@%:.'\"]{re.escape(name)}\b(?!': )", text) is not None


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and not value.startswith(("$", "@", "%")))


def _is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _near(name: str, known: ConfigParser) -> str:
    """A hint at the nearest ids: those that take a value, or else those of objects."""
    ids = [each for each in known.get() if not each.startswith("_") and each != name]
    values, objects = ([each for each in ids if _is_component(known[each]) == of] for of in (False, True))
    return near_names(name, values, cutoff=0.5, prefix="--") or near_names(name, objects, cutoff=0.5, prefix="--")


def is_number(value: Any, highest: float = math.inf) -> bool:
    """Whether a value is a finite number from 0 to ``highest``, and no ``bool``."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= highest


def is_axes(value: Any) -> bool:
    """Whether a value is a list of different axes, counted from 0."""
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value) and len(set(value)) == len(value)


def _is_scale(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(is_number(n) and n > 0 for n in value))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(n) in (int, float) and math.isfinite(n) for n in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(each, str) for each in value)


def _is_orientation(value: Any) -> bool:
    opposite = str.maketrans("LPI", "RAS")
    return value is None or (isinstance(value, str) and sorted(value.translate(opposite)) == ["A", "R", "S"])


_COUNTS = ("epochs", "batch_size", "val_interval", "patches", "window_batch", "max_pixels")
_FROM_ZERO = ("seed", "workers", "bootstrap")
_SWITCHES = (
    *("amp", "resume", "freeze", "multiclass", "calibrate", "gradcam", "upright", "overlays", "dicom_seg"),
    *("allow_outside", "batch_dice", "judge_unfit"),
)
_SHARES = (
    *("alpha", "label_smoothing", "flip_probability", "negative_probability", "foreground_share", "negative_share"),
    *("presence_context", "cache_rate"),
)
_AMOUNTS = ("weight_decay", "mixup", "smallest_area_mm2", "smallest_extent_mm", "teacher_store_limit")
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{name: (lambda v: type(v) is int and v >= 1, "a whole number from 1") for name in _COUNTS},
    **{name: (lambda v: type(v) is int and v >= 0, "a whole number from 0") for name in _FROM_ZERO},
    # None: the validation slices are not those of a fold.
    "fold": (lambda v: v is None or (type(v) is int and v >= 0), "a whole number from 0"),
    # None: no view of a slice comes twice.
    "mean": (lambda v: v is None or _are_numbers(v), "None or a list of numbers, one for each channel"),
    "views": (lambda v: v is None or (type(v) is int and v >= 1), "None or a whole number from 1"),
    **{name: (lambda v: isinstance(v, bool), "True or False") for name in _SWITCHES},
    **{name: (lambda v: is_number(v, highest=1), "a number from 0 to 1") for name in _SHARES},
    **{name: (is_number, "a number from 0") for name in _AMOUNTS},
    "image_size": (lambda v: type(v) is int and v >= 32, "a whole number from 32"),
    "overlap": (lambda v: is_number(v) and v < 1, "a number from 0, below 1"),
    "learning_rate": (lambda v: is_number(v) and v > 0, "a positive number"),
    "augmentation": (lambda v: isinstance(v, (list, tuple)), "a list of transforms, such as [] or [{'_target_': …}]"),
    "batch_augmentation": (
        lambda v: isinstance(v, (list, tuple)),
        "a list of kornia's augmentations, such as [] or [{'_target_': 'kornia.augmentation.RandomAffine', …}]",
    ),
    "orientation": (_is_orientation, "three letters, one of each of LR, PA and IS, such as 'RAS', or null in a file"),
    "modalities": (lambda v: v is None or _are_texts(v), "None or a list of names, one for each channel"),
    "features": (
        lambda v: len(v) == 6 and all(type(n) is int and n >= 1 for n in v),
        "six whole numbers: four encoder levels, the bridge, the last decoder level",
    ),
    "specificity": (lambda v: v is None or is_number(v, highest=1), "None or a number from 0 to 1"),
    "mirror": (is_axes, "a list of different axes, such as [0] or [0, 1]"),
    "part": (lambda v: v in ("validation", "all"), "'validation' or 'all'"),
    "threshold": (
        lambda v: v == EXPECTED_DICE or (is_number(v) and 0 < v < 1),
        f"a number between 0 and 1, or '{EXPECTED_DICE}'",
    ),
    # None: that of the operating point.
    "presence_threshold": (lambda v: v is None or is_number(v, highest=1), "a number from 0 to 1"),
    "temperature": (lambda v: is_number(v) and v > 0, "a positive number"),
    "projection_side": (lambda v: v in ("teacher", "student"), "'teacher' or 'student'"),
    "activation": (lambda v: v in ("sigmoid", "softmax"), "'sigmoid' or 'softmax'"),
    **{name: (_is_scale, "None or a list of positive numbers, one for each") for name in ("std", "spacing")},
}
# Of patches of volumes, in voxels.
_PATCH_CHECKS = {
    "image_size": (lambda v: all(type(n) is int and n >= 8 for n in v), "whole numbers from 8, one an axis"),
}
# U-Nets with six ``features``, which halve the image four times.
_UNETS = ("BasicUNet", "HybridUNet")
_UNET_CHECKS = {
    "image_size": (lambda v: type(v) is int and v >= 32 and v % 16 == 0, "a multiple of 16, from 32"),
}


# Whose check depends on nothing else.
CHECKED = frozenset(_CHECKS) - {"features"}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the named settings of a config before anything is built from them.

    Args:
        settings: name to value; ``network_def``, the definition of the network, decides which checks fit it.

    Raises:
        ValueError: a value is invalid; the message has its name, the value and what it must be.
    """
    definition = settings.get("network_def")
    target = str(definition.get("_target_")) if isinstance(definition, Mapping) else ""
    checks, values = _CHECKS, dict(settings)
    if isinstance(definition, Mapping) and target.rpartition(".")[2] in _UNETS:
        checks = {**_CHECKS, **_UNET_CHECKS}
        values |= {name: definition[name] for name in ("features",) if name in definition}
    if isinstance(settings.get("image_size"), list):
        checks = {**checks, **_PATCH_CHECKS}
    for name, value in values.items():
        valid, wanted = checks.get(name, (None, ""))
        try:
            good = valid is None or valid(value)
        except TypeError:
            good = False
        if not good:
            raise ValueError(f"{name} must be {wanted}, got {value!r}.")
    size, axes = settings.get("image_size"), settings.get("spatial_dims")
    # Configs of volumes replace the steps of slices, which would then be left out unnoticed.
    for name in ("negative_probability", "negatives_dir", "negative_share", "specificity", "classifier"):
        if isinstance(size, list) and settings.get(name):
            raise ValueError(f"{name} is for networks of slices, and this one takes patches of volumes: leave it out.")
    epochs, interval = settings.get("epochs"), settings.get("val_interval")
    if epochs is not None and interval is not None and interval > epochs:
        raise ValueError(
            f"val_interval is {interval} and epochs is {epochs}: no epoch would be validated, and no model.pt saved. "
            "Give a val_interval of at most epochs."
        )
    if settings.get("mixup") and settings.get("labelled_share", 1) != 1:
        raise ValueError("mixup blends labels, and labelled_share hides some: set one of the two to its default.")
    exclusive, activation = settings.get("multiclass"), settings.get("activation")
    if None not in (exclusive, activation) and exclusive != (activation == "softmax"):
        raise ValueError(
            f"activation is {activation!r}, and multiclass is {exclusive}: classes that exclude one another take "
            "softmax, a single class and classes that may overlap sigmoid."
        )
    if type(size) is int and axes not in (None, 2):
        raise ValueError(
            f"spatial_dims is {axes}, and this config is of slices: lay volumes.json over train.json, "
            "volumes_evaluate.json over evaluate.json, or volumes_inference.json over inference.json, see "
            "docs/volumes.md."
        )
    if isinstance(size, list) and axes is not None and len(size) != axes:
        raise ValueError(f"image_size is {size}, and spatial_dims is {axes}: give one number an axis.")
