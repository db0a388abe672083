"""What a run on a black image finds out about a student or a teacher before any training."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..distillation import ends_in_probabilities, may_be_probabilities, rehearse
from .trained import black_images

__all__ = [
    *("FAILURES", "check_logits", "check_student", "ended", "failed_taps", "sizes_hint", "warn_of_probabilities"),
]

logger = logging.getLogger(__name__)

# What networks raise for an image that they do not take.
FAILURES = (AssertionError, RuntimeError, TypeError, ValueError)


def check_student(student: nn.Module, settings: Mapping[str, Any]) -> None:
    """Refuse a student that does not take its images, or whose outputs are not those that are needed.

    Args:
        student: the network to train.
        settings: settings of the run, see `Distillation`.

    Raises:
        ValueError: the student does not take images of ``image_size``, ends in probabilities, or has not an output of
            this size for each mask, or one for each class.
    """
    image, name = black_images(settings), type(student).__name__
    try:
        found = rehearse(student, image=image)
    except FAILURES as error:
        raise ValueError(
            f"image_size is {settings['image_size']}, and the network, {name}, fails on an image of this size: "
            f"{ended(error)}{sizes_hint(error)}"
        ) from None
    check_logits(student, image, "network")
    masks, background = settings.get("mask_names"), bool(settings.get("multiclass"))
    if not (names := masks or settings.get("class_names")):
        return
    wanted = (len(names) + background, *image.shape[2:]) if masks else (len(names),)
    if (returned := tuple(found.shapes["student"][1:])) != wanted:
        what, of_size = ("mask_names", ", of the size of the image") if masks else ("class_names", "")
        raise ValueError(
            f"the network, {name}, returns {returned} (channels, spatial axes), and {wanted} are needed: an output for "
            f"each of {what} ({', '.join(names)}){' and the background' if masks and background else ''}{of_size}. "
            f"Correct network_def or {what}."
        )


def check_logits(network: nn.Module, image: torch.Tensor, what: str) -> None:
    """Refuse a network whose last step is a sigmoid or a softmax.

    Raises:
        ValueError: it is.
    """
    if (activation := ends_in_probabilities(network, image)) is not None:
        raise ValueError(
            f"the {what}, {type(network).__name__}, ends in a {activation}, and the loss terms take logits, of which "
            f"they compute the {activation} themselves: return its input in forward, or leave it out of network_def."
        )


def warn_of_probabilities(teacher: nn.Module, image: torch.Tensor) -> None:
    """Say that the outputs of a trained teacher look like probabilities, see `may_be_probabilities`."""
    if may_be_probabilities(teacher, image):
        logger.warning(
            "teacher_settings: all outputs of %s for noise lie between 0 and 1, as PROBABILITIES do, and the loss "
            "terms take logits, of which they compute the probabilities themselves: return the logits in forward.",
            type(teacher).__name__,
        )


def failed_taps(error: Exception) -> bool:
    """Whether an error of a rehearsal is one of the taps, which names itself, and not of a network."""
    return str(error).startswith(("tap '", "tap(s) "))


def ended(error: Exception) -> str:
    """The message of an error as a sentence."""
    return f"{str(error).strip() or type(error).__name__}".removesuffix(".") + "."


def sizes_hint(error: Exception) -> str:
    """Of an error of shapes, what sizes a network may take; of others, nothing."""
    message = str(error)
    if re.search(r"\b(size|shape|spatial|dimension|divisible)", message, re.I) and "channels" not in message:
        return (
            " It may be that this network takes multiples of 2ⁿ only, as those do that halve the image n times, or "
            "needs more than one pixel at its lowest level, as with instance normalisation."
        )
    return ""
