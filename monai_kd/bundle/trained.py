"""The settings that are needed to use a checkpoint: its network, and the input that it was trained with."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from ..config import UntrustedNetwork, build_network, literal
from ..config.checks import is_axes
from ..data import NO_TUMOUR
from ..io.checkpoints import check_checkpoint, load_weights
from ..io.trained import BODY_PART, read_trained
from ..metrics import PresenceRule
from ..networks.outputs import main_logits
from ..transforms import ACTIVATIONS, IMAGENET_MEAN, IMAGENET_STD
from .metadata import classifies, read_metadata
from .precision import is_half_precision

__all__ = ["black_images", "named_network", "task_of", "trained_network", "trained_settings", "tried"]

logger = logging.getLogger(__name__)

# Values of earlier versions, which had no settings for these.
BEFORE = {
    **{"dataset_dir": None, "fold": None, "leave_out": [], "teacher": None, "taps": None},
    **{"in_channels": 3, "spatial_dims": 2, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
    **{"multiclass": False, "activation": "sigmoid", "mask_names": ["tumour"], "class_names": [], "volumes": None},
    **{"operating_point": None, "half_precision": None, "mirror": [], "labelled_share": 1, BODY_PART: None},
}
# A transform of any class, of `teacher_settings`.
NORMALIZATION = "normalization"
# Settings that are read from a bundle's train.json where there is no settings.json.
_USED = (
    *("network_def", "image_size", "in_channels", "spatial_dims", "mean", "std"),
    *("multiclass", "activation", "mask_names", "class_names"),
)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _numbers(value: Any, least: float = -math.inf) -> bool:
    """Finite numbers above ``least``, or ``None``."""
    numbers = isinstance(value, list) and all(type(each) in (int, float) for each in value)
    return value is None or (numbers and all(math.isfinite(each) and each > least for each in value))


def _fold(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _members(value: Any) -> bool:
    """What `monai_kd.data.trainings` reads of the networks of an ensemble."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return value is None
    names = ("fold", "leave_out", "datalist_sha256", "teacher", "ensemble_of")
    return all(VALID[name](each[name]) for each in value for name in names if name in each)


def _operating_point(value: Any) -> bool:
    try:
        return value is None or PresenceRule.of(value).threshold is not None
    except (TypeError, ValueError):
        return False


VALID: dict[str, Callable[[Any], bool]] = {
    "network_def": lambda v: isinstance(v, dict),
    "image_size": lambda v: _count(v) or (isinstance(v, list) and len(v) > 0 and all(map(_count, v))),
    **dict.fromkeys(("in_channels", "spatial_dims"), _count),
    "mean": _numbers,
    "std": lambda v: _numbers(v, least=0),
    **dict.fromkeys(("class_names", "mask_names"), _texts),
    "multiclass": lambda v: isinstance(v, bool),
    "activation": lambda v: v in ACTIVATIONS,
    "fold": _fold,
    "leave_out": lambda v: isinstance(v, list) and all(_fold(each) and each is not None for each in v),
    **dict.fromkeys(("dataset_dir", "datalist_sha256", BODY_PART), lambda v: v is None or isinstance(v, str)),
    "labelled_share": lambda v: type(v) in (int, float) and 0 < v <= 1,
    "operating_point": _operating_point,
    "half_precision": is_half_precision,
    "mirror": is_axes,
    "ensemble_of": _members,
    **dict.fromkeys(("teacher", "taps", "volumes"), lambda v: v is None or isinstance(v, dict)),
}


def trained_settings(checkpoint: str | Path, bundle_root: str | Path | None = None) -> dict[str, Any]:
    """The ``settings.json`` beside a checkpoint, with all that is needed to use the checkpoint.

    Settings of earlier versions are read too; values that they lack are filled in as those versions had them.

    Args:
        checkpoint: the weights.
        bundle_root: bundle whose ``train.json`` describes the network where there is no checkpoint (yet), so that its
            config can be inspected, or, logged as a warning, where there is no ``settings.json`` beside it. ``None``:
            both are errors.

    Returns:
        The settings; among them ``network_def``, see `build_network`, ``image_size``, ``in_channels``,
        ``spatial_dims``, ``mean``, ``std``, ``multiclass``, ``activation``, ``mask_names``, ``class_names``; where
        known, ``dataset_dir``, ``fold``, ``leave_out``, ``teacher`` and ``taps``; for a network of volumes ``volumes``,
        see `volume_settings`; ``operating_point``, see `PresenceRule`, and ``half_precision``, see `amp_by_default`, or
        ``None``; and ``mirror``, the axes along which inference mirrors by default.

    Raises:
        FileNotFoundError: there is no such checkpoint, and no bundle was given.
        ValueError: ``settings.json`` can't be read, a value in it is not what it should be, or it is of a
            segmentation and the bundle of a classification, or the other way round.
    """
    path = Path(checkpoint).expanduser()
    if bundle_root is None:
        check_checkpoint(path)
    saved = read_trained(path) if path.is_file() else None
    file = path.with_name("settings.json")
    if saved is None:
        if bundle_root is None:
            raise ValueError(
                f"{path} has no settings.json beside it, which describes its network: restore it; "
                "a teacher that was trained elsewhere is described by teacher_settings, see docs/training.md."
            )
        saved = _of_bundle(Path(bundle_root))
        if path.is_file():
            network = json.dumps(saved["network_def"])
            logger.warning("%s has no settings.json beside it: assuming the network %s.", path, network)
    else:
        if bundle_root is not None:
            _check_task(saved, path, Path(bundle_root))
        if "network_def" not in saved:
            saved = {**saved, **_of_before(saved, file)}
    # What only a config may describe is not taken from a file.
    settings = {**BEFORE, **{name: value for name, value in saved.items() if name != NORMALIZATION}}
    for name, valid in VALID.items():
        if not valid(settings.get(name)):
            raise ValueError(
                f"{file}: {name} is {settings.get(name)!r}, which is not a valid value: restore the file, or train "
                "again."
            )
    return settings


def trained_network(
    settings: Mapping[str, Any], checkpoint: str | Path | None = None, trusted: bool = False
) -> nn.Module:
    """The network of `trained_settings`.

    Args:
        settings: of the checkpoint.
        checkpoint: weights to load strictly. Where there is no such file, which is logged as a warning, the weights are
            random, so that a config can be inspected. ``None``: random weights.
        trusted: whether the definition of the network is that of a config, see `build_network`.

    Raises:
        UntrustedNetwork: the network is not one of MONAI or of this package; see `build_network`.
        ValueError: the weights do not fit the network.
    """
    network = build_network(settings["network_def"], trusted=trusted)
    if checkpoint is None:
        return network
    if not Path(checkpoint).expanduser().is_file():
        logger.warning(
            "there is no checkpoint %s: the weights of the network are RANDOM; a run that needs them ends.", checkpoint
        )
        return network
    return load_weights(network, checkpoint)


def named_network(settings: Mapping[str, Any], checkpoint: Path) -> nn.Module:
    """`trained_network` with its weights, whose refusal names the checkpoint, as where there are several."""
    try:
        return trained_network(settings, checkpoint)
    except UntrustedNetwork as error:
        raise ValueError(f"{checkpoint}: {error}") from None


def black_images(settings: Mapping[str, Any]) -> torch.Tensor:
    """Two images for a network, (2, ``in_channels``, *spatial axes*) of 0, to try it with.

    Two, since BatchNorm needs them in a network that is in training mode.
    """
    size = settings["image_size"]
    sides = size if isinstance(size, (list, tuple)) else [size] * settings["spatial_dims"]
    return torch.zeros(2, settings["in_channels"], *sides)


def tried(network: nn.Module, settings: Mapping[str, Any], what: str) -> torch.Tensor:
    """The main logits of a network for `black_images`; afterwards it is in evaluation mode.

    Args:
        what: the network, for the error.

    Raises:
        ValueError: it does not take them, or its output has no logits.
    """
    image = black_images(settings)
    try:
        with torch.inference_mode():
            return main_logits(network.eval()(image), network, image.ndim)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{what} fails on a black image with in_channels {settings['in_channels']} and image_size "
            f"{settings['image_size']}, as its settings have them: {error}"
        ) from None


def task_of(saved: Mapping[str, Any]) -> str | None:
    """``"segmentation"`` or ``"classification"``, by what stands in a ``settings.json``; ``None`` if nothing tells."""
    # Version 0.1 had no mask_names, and features for the networks of segmentation alone.
    if "mask_names" in saved or "features" in saved:
        return "segmentation"
    return "classification" if "class_names" in saved else None


def _check_task(saved: Mapping[str, Any], checkpoint: Path, bundle_root: Path) -> None:
    """Refuse a checkpoint of the other task: its network is built from its own settings, so it would load."""
    task = task_of(saved)
    if task is not None and (task == "segmentation") != of_segmentation(bundle_root):
        raise ValueError(
            f"{checkpoint} does not fit {bundle_root.name}: it is of a {task}, see settings.json beside it; "
            "give one of this bundle."
        )


def of_segmentation(bundle_root: Path) -> bool:
    """Whether a bundle is of masks; otherwise it is of classes."""
    return not classifies(read_metadata(bundle_root))


def _of_bundle(bundle_root: Path) -> dict[str, Any]:
    """The settings that the bundle's training would write for the preset ``"full"``."""
    configs = bundle_root / "configs"
    parser = ConfigParser()
    parser.read_config(str(configs / "train.json"))
    metadata = read_metadata(bundle_root)
    # The channels of a classifier are its classes; "no tumour" is one only of networks that were trained for it.
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"] if classifies(metadata) else {}
    names = [channels[number] for number in sorted(channels, key=int) if channels[number] != NO_TUMOUR]
    values = {"bundle_root": literal(str(bundle_root)), "preset": "full", "class_names": names}
    parser.update({**values, **({"given_data": False} if "given_data" in parser else {})})
    settings = parser["settings"]
    return {name: parser.get_parsed_content(f"settings::{name}") for name in _USED if name in settings}


def _of_before(saved: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Network and taps from the settings of version 0.1, which had the parameters of the bundle's network only."""
    try:
        if "network_name" in saved:
            network = {"_target_": "monai_kd.networks.create_backbone", "name": saved["network_name"]}
            return {
                "network_def": {**network, "num_classes": len(saved["class_names"]), "image_size": saved["image_size"]}
            }
        if "backbones" in saved:
            network = {"_target_": "monai_kd.networks.LateFusionClassifier", "backbones": saved["backbones"]}
            return {"network_def": {**network, "num_classes": len(saved["class_names"])}}
        unet = {"in_channels": 3, "out_channels": 1, "features": saved["features"], "norm": saved.get("norm", "batch")}
        if "vit_name" in saved:
            vit = {name: saved[name] for name in ("vit_name", "vit_image_size")}
            return {
                "network_def": {"_target_": "monai_kd.networks.HybridUNet", **unet, **vit},
                "taps": {f"d{level}": f"unet.upcat_{level}" for level in (4, 3, 2, 1)},
            }
        network = {"_target_": "BasicUNet", "spatial_dims": 2, **unet, "act": ["relu", {"inplace": True}]}
        return {"network_def": network, "taps": {f"d{level}": f"upcat_{level}" for level in (4, 3, 2, 1)}}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{file} does not describe the network ({error!r}): add the definition of the network as "network_def", '
            'such as {"_target_": "BasicUNet", "spatial_dims": 2, …}.'
        ) from None
