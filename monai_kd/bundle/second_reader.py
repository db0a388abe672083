"""Find the classifier by which the operating point of a segmentation judges presence, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..inference.own_classes import OwnClasses, gives_presence
from ..inference.second_reader import SecondReader
from ..io.checksum import file_sha256
from ..io.trained import READER_FILE, learnt_classes, read_trained
from ..metrics import OWN_CLASSES, classifier_of
from .trained import task_of, trained_network, trained_settings

__all__ = ["second_reader"]

NONE = "none"


def second_reader(
    checkpoint: str | Path,
    trained: Mapping[str, Any],
    classifier: str | Path | None = None,
    device: str | torch.device = "cpu",
    amp: bool = False,
    network: nn.Module | None = None,
    mirror: Sequence[int] | None = None,
) -> SecondReader | OwnClasses | None:
    """The classifier of a segmentation: a given one, or that of the operating point; ``None`` where there is neither.

    Without an operating point, a segmentation, given as ``network``, that was trained to give classes too, "no tumour"
    among them, is asked for these.

    Args:
        checkpoint: of the segmentation; beside it lies ``classifier.safetensors``, that of its operating point.
        trained: settings of the segmentation, see `trained_settings`.
        classifier: checkpoint of a classifier, with its ``settings.json``, in place of that; ``"own"``: the classes of
            the segmentation itself; ``"none"``: no classifier.
        device, amp: where and how it runs.
        network: the segmentation, which gets the weights of the checkpoint before it runs; ``None``: it is loaded where
            its own classes are asked.
        mirror: axes over which its own classes are averaged, as its masks are; ``None``: those of the settings.

    Raises:
        FileNotFoundError: there is no such checkpoint, or the operating point has a classifier that is not there.
        ValueError: the checkpoint is of a segmentation or of a classifier that knows no "no tumour", the segmentation
            gives no classes itself, a file is damaged, or another one than the operating point was chosen with.
    """
    if classifier == NONE:
        return None
    point = trained.get("operating_point")
    wanted = classifier_of(point) if classifier is None else None
    if classifier == OWN_CLASSES or wanted == OWN_CLASSES:
        if network is None:
            network = trained_network(trained, checkpoint).to(device).eval()
        return OwnClasses(network, trained, amp, mirror)
    if classifier is not None:
        reader = _of_checkpoint(Path(classifier).expanduser(), trained, amp)
    elif wanted is not None:
        reader = _of_operating_point(Path(checkpoint).expanduser(), wanted, trained, amp)
    elif point is None and learnt_classes(trained) and gives_presence(network, trained):
        assert network is not None
        return OwnClasses(network, trained, amp, mirror)
    else:
        return None
    reader.network.to(device)
    return reader


def _of_checkpoint(path: Path, trained: Mapping[str, Any], amp: bool) -> SecondReader:
    settings = trained_settings(path)
    if task_of(read_trained(path) or {}) == "segmentation":
        raise ValueError(f"classifier: {path} is of a segmentation: give one of cls_student or cls_teacher.")
    return SecondReader(trained_network(settings, path), settings, trained, amp)


def _of_operating_point(checkpoint: Path, wanted: str, trained: Mapping[str, Any], amp: bool) -> SecondReader:
    path = checkpoint.with_name(READER_FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"the operating point of {checkpoint} was chosen together with a classifier, and there is no {path}: "
            "restore it, or choose an operating point again, see docs/examinations.md."
        )
    if file_sha256(path) != wanted:
        raise ValueError(
            f"{path} is another classifier than the one that the operating point of {checkpoint} was chosen with: "
            "restore it, or choose an operating point again, see docs/examinations.md."
        )
    return SecondReader.load(path, trained, amp)
