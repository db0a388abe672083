"""Loading both students from the arguments of a command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.text import printable

from ..config import checked_device
from ..inference import BundlePredictor
from ..io.network_name import network_name
from . import find_bundle
from .checkpoint import CheckpointFacts, describe_checkpoint
from .released import checkpoint_or_own
from .temperature import read_temperature

__all__ = ["Students", "load_students"]

BUNDLES = {"segmentation": "seg_student", "classification": "cls_student"}


@dataclass(frozen=True)
class Students:
    """The two networks and the facts about their checkpoints.

    Attributes:
        segment: predictor of seg_student.
        classify: predictor of cls_student.
        checkpoints: by ``"segmentation"`` and ``"classification"``.
    """

    segment: BundlePredictor
    classify: BundlePredictor
    checkpoints: dict[str, CheckpointFacts]


def load_students(
    segmentation: Path | None = None,
    classification: Path | None = None,
    threshold: float | str | None = None,
    temperature: str | None = None,
    device: str | None = None,
    bundles: Path | None = None,
    presence_threshold: float | None = None,
    smallest_extent_mm: float | None = None,
    presence_context: float | None = None,
    amp: bool | None = None,
    judge_unfit: bool | None = None,
) -> Students:
    """Load both students; print which networks they are, and whether one of them was trained on phantoms.

    Args:
        segmentation, classification: checkpoints of seg_student and cls_student; ``None`` for ``models/model.pt`` of
            their bundles.
        threshold: on the probability of tumour, or ``"expected_dice"``; ``None`` for the bundle's.
        temperature: the classifier's logits are divided by it, see `read_temperature`; ``None`` for the bundle's.
        device: name of a device; ``None`` for the bundle's default.
        bundles: folder of the bundles, see `find_bundle`.
        presence_threshold: on the presence score of a slice; ``None`` for that of the operating point.
        smallest_extent_mm: see `monai_kd.inference.DropThinMarksd`; ``None`` for the bundle's.
        presence_context: see `monai_kd.inference.JudgePresenced`; ``None`` for the bundle's.
        amp: whether both networks run in half precision; ``None`` for the bundle's default.
        judge_unfit: whether images unlike those of the training are judged, too; ``None`` for the bundle's.

    Raises:
        FileNotFoundError: a bundle, a checkpoint or the file of the temperature does not exist.
        ValueError: a checkpoint does not fit its network, or a value is not allowed.
    """
    folders = {what: find_bundle(name, bundles) for what, name in BUNDLES.items()}
    segmentation = checkpoint_or_own(segmentation, folders["segmentation"], "--segmentation CHECKPOINT")
    classification = checkpoint_or_own(classification, folders["classification"], "--classification CHECKPOINT")
    try:
        shared: dict[str, Any] = {} if device is None else {"device": checked_device(device)}
    except ValueError as error:
        raise ValueError(f"--{error}") from error
    shared |= {name: on for name, on in (("amp", amp), ("judge_unfit", judge_unfit)) if on is not None}
    rules = {
        **{"threshold": threshold, "presence_threshold": presence_threshold},
        **{"smallest_extent_mm": smallest_extent_mm, "presence_context": presence_context},
    }
    cut = {name: value for name, value in rules.items() if value is not None}
    softened = {} if temperature is None else {"temperature": read_temperature(temperature, classification)}
    segment = _predictor("segmentation", segmentation, folders, **shared, **cut)
    if threshold is not None and segment.threshold is None:
        raise ValueError(
            f"--threshold: {segmentation} has no threshold, because each pixel gets its most probable class "
            f"(background or {', '.join(segment.mask_names)}): leave --threshold out."
        )
    classify = _predictor("classification", classification, folders, **shared, **softened)
    checkpoints = {
        "segmentation": describe_checkpoint(segmentation),
        "classification": describe_checkpoint(classification),
    }
    for what, path in (("segmentation", segmentation), ("classification", classification)):
        print(printable(f"{what}: {network_name(path)}"), flush=True)
    for what, facts in checkpoints.items():
        if facts.synthetic:
            print(f"The {what} network was trained on SYNTHETIC phantoms: its results on real slices mean nothing.")
    return Students(segment, classify, checkpoints)


def _predictor(what: str, checkpoint: Path, folders: dict[str, Path], **overrides: Any) -> BundlePredictor:
    try:
        return BundlePredictor(folders[what], checkpoint, **overrides)
    except (ValueError, OSError) as error:
        for other, folder in folders.items():
            if other != what and _fits(folder, checkpoint):
                raise ValueError(
                    f"--{what}: {checkpoint} is a checkpoint for --{other} ({folder.name}); give one of "
                    f"{folders[what].name}."
                ) from error
        # It begins with the name of an option that was given, or is about the checkpoint.
        about = "" if str(error).partition(":")[0] in overrides else f"{what}: "
        raise ValueError(f"--{about}{error}") from error


def _fits(bundle: Path, checkpoint: Path) -> bool:
    try:
        BundlePredictor(bundle, checkpoint, device="cpu")
    except (ValueError, OSError, RuntimeError):
        return False
    return True
