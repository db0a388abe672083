"""A model card for weights that the card of their bundle does not describe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..metrics import OWN_CLASSES, classifier_of
from .metadata import classifies, training_of

__all__ = ["card_of", "data_license_of"]


def card_of(
    bundle: Path, metadata: Mapping[str, Any], settings: Mapping[str, Any], sha256: str, metrics: Mapping[str, Any]
) -> str:
    """The model card of weights, in Markdown: that of the bundle for its own, else one of what is known of them.

    Args:
        bundle: its folder, whose card is ``docs/README.md``.
        metadata: the bundle's own; ``weights_sha256`` says which weights its card is of.
        settings: of the weights, see `trained_settings`.
        sha256: of the weights.
        metrics: ``eval_metrics``, empty where they are not known.
    """
    if metadata.get("weights_sha256") == sha256:
        return (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    fold = settings.get("fold")
    facts = {
        "network": training_of(settings),
        "input": _input(settings),
        "output": _output(settings, metadata),
        "presence": _judged_by(settings),
        "not trained on": "" if fold is None else f"fold {fold} (counted from 0) of its data set",
        "SHA-256 of the weights": sha256,
    }
    performance = "Not known: no evaluation was given."
    if metrics:
        performance = f"Means of the evaluation of these weights:\n\n{_table(metrics)}"
    return f"""# A network of {bundle.name}

What is known of these weights, by their `settings.json`. They are not those that the bundle was released with, so that
nothing that is said of those holds here.

## Model description

{_table({name: value for name, value in facts.items() if value})}

## Performance

{performance}

## Intended use and limitations

{metadata["intended_use"]} Images of another kind than those that it was trained on, by sequence, scanner, part of the
body or age, give masks and classes that mean nothing, without a warning. Measure it on images of your own first.
"""


def data_license_of(bundle: Path, metadata: Mapping[str, Any], sha256: str) -> str:
    """``data_license.txt`` for weights: that of the bundle for its own; of others it is not known what it is worth."""
    own = (bundle / "docs" / "data_license.txt").read_text(encoding="utf-8")
    if metadata.get("weights_sha256") == sha256:
        return own
    return f"""On which data these weights were trained, and under which licence, is not recorded.
Of the data that the bundle {bundle.name} was made for it says:

{own}"""


def _table(values: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())])


def _judged_by(settings: Mapping[str, Any]) -> str:
    judge = classifier_of(settings.get("operating_point"))
    if judge is None:
        return ""
    if judge == OWN_CLASSES:
        return "judged together with the classes that the network gives itself"
    return "judged together with a classifier, in a file of that name, of whose training nothing is recorded here"


def _input(settings: Mapping[str, Any]) -> str:
    size, volumes = settings["image_size"], settings.get("volumes")
    lengths = size if isinstance(size, list) else [size] * settings["spatial_dims"]
    pixels = " × ".join(map(str, lengths))
    if not volumes:
        return f"slices, resized to {pixels} pixels"
    channels = ", ".join(volumes["modalities"])
    spacing = f" of {' × '.join(map(str, volumes['spacing']))} mm" if volumes["spacing"] else ""
    return f"volumes with the channels {channels}, in windows of {pixels} voxels{spacing}"


def _output(settings: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    if classifies(metadata):
        return f"classes: {', '.join(settings['class_names'])}"
    return f"masks: {', '.join(settings['mask_names'])}"
