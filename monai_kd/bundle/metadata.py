"""metadata.json of a bundle for the weights that it is packed with."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics.masks import SIZES

__all__ = ["classifies", "described", "eval_metrics", "measured", "of_weights", "read_metadata", "training_of"]

DIGITS = 4


def read_metadata(bundle: Path) -> dict[str, Any]:
    """``metadata.json`` of the folder of a bundle."""
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


def classifies(metadata: Mapping[str, Any]) -> bool:
    """Whether a bundle is of a classification and not of a segmentation, by its metadata."""
    return metadata["network_data_format"]["outputs"]["pred"]["format"] != "segmentation"


def of_weights(metadata: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with shapes, classes and operating point of a network as `trained_settings` describes it.

    Args:
        metadata: of the bundle, for its default network.
        settings: of the weights.
    """
    result = copy.deepcopy(dict(metadata))
    result.pop("operating_point", None)
    if settings.get("operating_point"):
        result["operating_point"] = copy.deepcopy(settings["operating_point"])
    data = result["network_data_format"]
    image, pred = data["inputs"]["image"], data["outputs"]["pred"]
    size, dimensions, channels = settings["image_size"], settings["spatial_dims"], settings["in_channels"]
    image["spatial_shape"] = list(size) if isinstance(size, Sequence) else [size] * dimensions
    if settings.get("volumes"):
        # Of patches, and with no bounds that are known.
        image["value_range"] = []
        image["is_patch_data"] = pred["is_patch_data"] = True
    if settings["mean"] and settings["std"]:
        # Grey values from 0 to 1, normalised: bounds to a decimal that hold them.
        ends = [
            (10 * (grey - mean) / std)
            for grey in (0, 1)
            for mean, std in zip(settings["mean"], settings["std"], strict=True)
        ]
        image["value_range"] = [math.floor(min(ends)) / 10, math.ceil(max(ends)) / 10]
    if channels != image["num_channels"]:
        names = (settings.get("volumes") or {}).get("modalities") or []
        named = len(names) == channels
        image["channel_def"] = {str(i): names[i] if named else f"channel {i}" for i in range(channels)}
        image["num_channels"] = channels
    if not classifies(metadata):
        names = list(settings["mask_names"])
        pred["spatial_shape"] = list(image["spatial_shape"])
        pred["num_channels"] = len(names) + bool(settings["multiclass"])
        # Of regions of volumes that may overlap, each channel is one; MONAI Label reads the numbers of slices here.
        overlap = settings.get("volumes") and len(names) > 1 and not settings["multiclass"]
        labels = names if overlap else ["background", *names]
        masks = f"{'mask' if len(names) == 1 else 'masks'}: "
    else:
        labels = list(settings["class_names"])
        pred["num_channels"] = len(labels)
        masks = ""
    if list(pred["channel_def"].values()) != labels:
        numbered = ", ".join(f"{number} {label}" for number, label in enumerate(labels))
        result["label_classes"] = result["pred_classes"] = masks + numbered
    pred["channel_def"] = {str(number): label for number, label in enumerate(labels)}
    return result


def described(
    metadata: Mapping[str, Any], settings: Mapping[str, Any], sha256: str, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """`of_weights`, with these metrics, and without what is said of other weights that the bundle was released with.

    Args:
        metadata, settings: as of `of_weights`.
        sha256: of the weights.
        metrics: ``eval_metrics``, empty where they are not known.
    """
    result = {**of_weights(metadata, settings), "eval_metrics": dict(metrics)}
    if result.get("weights_sha256") != sha256:
        result.pop("weights_sha256", None)
        said = f" The weights: {training_of(settings)}."
        result["description"] = re.sub(r" The weights: [^.]*\.|$", said, result["description"], count=1)
        if settings.get("volumes"):
            _say_of_volumes(result, settings)
    return result


def _say_of_volumes(metadata: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """In the place of what the bundle says of slices of the head and of the data that it was made for."""
    regions, channels = ", ".join(settings["mask_names"]), settings["volumes"]["modalities"]
    metadata |= {
        "name": f"Segmentation of volumes: {regions}",
        "task": f"Segmentation of {regions} on volumes with the channels {', '.join(channels)}",
        "description": f"A network of volumes. The weights: {training_of(settings)}.",
        "data_source": "not recorded",
        "image_classes": f"volumes with the channels {', '.join(channels)}, normalised as models/settings.json says",
        "references": [],
    }
    modality = channels[0] if len(channels) == 1 and re.fullmatch("[A-Z]{2}", channels[0]) else "n/a"
    metadata["network_data_format"]["inputs"]["image"]["modality"] = modality


def training_of(settings: Mapping[str, Any]) -> str:
    """What a network is and how it was trained, as far as its settings tell."""
    network = str(settings["network_def"]["_target_"]).rpartition(".")[2]
    taught = ["distilled" if settings.get("teacher") else "trained without a teacher"]
    recipe = [f"recipe {settings['recipe']}"] if settings.get("recipe") and settings.get("teacher") else []
    epochs = [f"{settings['epochs']} epochs"] if settings.get("epochs") else []
    known = taught if "teacher" in settings else ["of a training"]
    return ", ".join([network, *known, *recipe, *epochs])


def measured(evaluation: Path, sha256: str) -> dict[str, Any]:
    """``eval_metrics`` from the folder that ``evaluate.json`` wrote: means over slices, and numbers of slices.

    Args:
        evaluation: the folder, with ``metrics.json``.
        sha256: of the weights.

    Raises:
        FileNotFoundError: there is no ``metrics.json``.
        ValueError: it is none of an evaluation, or of other weights.
    """
    path = evaluation / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"--evaluation: there is no {path}: give the folder that evaluate.json wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own, found = content["checkpoint"]["sha256"] == sha256, eval_metrics(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"--evaluation: {path} is not the metrics.json of an evaluation ({error!r}).") from None
    if not own:
        raise ValueError(f"--evaluation: {path} is of another checkpoint: evaluate this one, or leave it out.")
    return found


def eval_metrics(content: Mapping[str, Any]) -> dict[str, Any]:
    """``eval_metrics`` of the content of a ``metrics.json``: means over slices, or volumes, and their number.

    Raises:
        KeyError, TypeError, ValueError: it is none of an evaluation.
    """
    if "overall" in content:
        part = content["overall"]
        of = "volumes" if "volumes" in part else "slices"
        means = {name: each[f"over_{of}"]["mean"] for name, each in part["metrics"].items()}
        values = {f"mean_{name}": mean for name, mean in means.items() if name not in SIZES}
        counts = {of: part[of], "patients": part["patients"]}
    else:
        part = content["over_slices"]
        values = {name: each["value"] for name, each in part["metrics"].items()}
        counts = {"slices": part["count"], "patients": content["over_patients"]["count"]}
    synthetic = {"synthetic": True} if content["synthetic"] else {}
    known = {name: round(float(value), DIGITS) for name, value in values.items() if value is not None}
    return {**known, **counts, **synthetic}
