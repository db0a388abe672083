"""Find the classifier by which the operating point of a segmentation judges presence, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..inference.second_reader import SecondReader
from ..io.checksum import file_sha256
from ..io.trained import READER_FILE, read_trained
from ..metrics import classifier_of
from .trained import task_of, trained_network, trained_settings

__all__ = ["second_reader"]


def second_reader(
    checkpoint: str | Path,
    trained: Mapping[str, Any],
    classifier: str | Path | None = None,
    device: str | torch.device = "cpu",
    amp: bool = False,
) -> SecondReader | None:
    """The classifier of a segmentation: a given one, or that of the operating point; ``None`` where there is neither.

    Args:
        checkpoint: of the segmentation; beside it lies ``classifier.safetensors``, that of its operating point.
        trained: settings of the segmentation, see `trained_settings`.
        classifier: checkpoint of a classifier, with its ``settings.json``, in place of that.
        device, amp: where and how it runs.

    Raises:
        FileNotFoundError: there is no such checkpoint, or the operating point has a classifier that is not there.
        ValueError: the checkpoint is of a segmentation or of a classifier that knows no "no tumour", a file is damaged,
            or another one than the operating point was chosen with.
    """
    if classifier is not None:
        path = Path(classifier).expanduser()
        settings = trained_settings(path)
        if task_of(read_trained(path) or {}) == "segmentation":
            raise ValueError(f"classifier: {path} is of a segmentation: give one of cls_student or cls_teacher.")
        reader = SecondReader(trained_network(settings, path), settings, trained, amp)
    else:
        wanted = classifier_of(trained.get("operating_point"))
        if wanted is None:
            return None
        path = Path(checkpoint).expanduser().with_name(READER_FILE)
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
        reader = SecondReader.load(path, trained, amp)
    reader.network.to(device)
    return reader
