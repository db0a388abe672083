"""What a run on a black image finds out about a student or a teacher before any training."""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..distillation import ends_in_probabilities, may_be_probabilities, rehearse
from ..losses import DistillationLoss
from ..losses.inputs import inputs_of
from .trained import black_images

__all__ = [
    *("FAILURES", "check_logits", "check_student", "check_terms", "ended", "failed_taps", "sizes_hint"),
    "warn_of_probabilities",
]

logger = logging.getLogger(__name__)

# What networks raise for an image that they do not take.
FAILURES = (AssertionError, RuntimeError, TypeError, ValueError)


def check_student(student: nn.Module, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Refuse a student that does not take its images, or whose outputs are not those that are needed.

    Args:
        student: the network to train.
        settings: settings of the run, see `Distillation`.

    Returns:
        the shape of its logits for one image.

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
    returned = tuple(found.shapes["student"][1:])
    masks, background = settings.get("mask_names"), bool(settings.get("multiclass"))
    if not (names := masks or settings.get("class_names")):
        return returned
    wanted = (len(names) + background, *image.shape[2:]) if masks else (len(names),)
    if returned != wanted:
        what, of_size = ("mask_names", ", of the size of the image") if masks else ("class_names", "")
        raise ValueError(
            f"the network, {name}, returns {returned} (channels, spatial axes), and {wanted} are needed: an output for "
            f"each of {what} ({', '.join(names)}){' and the background' if masks and background else ''}{of_size}. "
            f"Correct network_def or {what}."
        )
    return returned


def check_terms(loss: DistillationLoss, logits: tuple[int, ...], settings: Mapping[str, Any]) -> None:
    """Refuse a loss term that does not take the logits and labels of the training, by calling copies of the terms once.

    Logits are random. Of the labels, which have the form of the training's, half of each mask is 1, and every class is
    there. Terms that get features or classes of items, and those that can't be copied, are not called.

    Args:
        loss: of the training.
        logits: their shape for one image.
        settings: settings of the run, see `Distillation`.

    Raises:
        ValueError: a term fails, or returns other than one number.
    """
    label, holds = _example_label(logits, settings)
    generator = torch.Generator().manual_seed(0)
    examples = {name: torch.randn(len(label), *logits, generator=generator) for name in ("student", "teacher")}
    # Some losses take gradients of the logits.
    examples = {name: each.requires_grad_() for name, each in examples.items()} | {"label": label}
    for name, term in loss.terms.items():
        wanted = inputs_of(term)
        # A label of its own: there are losses that change it.
        inputs: dict[str, Any] = {**examples, "student_heads": [examples["student"]], "label": label.clone()}
        if not set(wanted) <= inputs.keys():
            continue
        try:
            copied = copy.deepcopy(term).cpu()
        except Exception:  # of any library: a lock, or weights that are computed
            logger.info("loss term '%s' can't be copied, and is not tried before the training.", name)
            continue
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            try:
                DistillationLoss({name: copied}, {name: 1}).term_value(name, [inputs[key] for key in wanted])
            except (*FAILURES, ArithmeticError, AttributeError, LookupError) as error:
                shown = {**examples, "student_heads": examples["student"]}
                shapes = " and ".join(f"{key} {tuple(shown[key].shape)}" for key in wanted)
                told = str(error) if str(error).startswith("loss term") else f"loss term '{name}': {ended(error)}"
                raise ValueError(
                    f"{told} It is called with {shapes}{f' of {holds}' * ('label' in wanted)}: correct terms#{name}, "
                    "or leave it out of the recipe."
                ) from None


def _example_label(logits: tuple[int, ...], settings: Mapping[str, Any]) -> tuple[torch.Tensor, str]:
    """A batch of labels for logits of this shape, and what they hold."""
    classes, *spatial = logits
    if not spatial:
        # All classes: there may be losses that count those in a batch.
        numbers = torch.arange(max(2, classes)) % classes
        if settings.get("mixup"):
            return F.one_hot(numbers, classes).float(), "probabilities"
        return numbers, "class numbers"
    channels, values, holds = (1, classes, "class numbers") if settings.get("multiclass") else (classes, 2, "0 and 1")
    places = torch.arange(math.prod(spatial)).reshape(spatial)
    return (places % values).float().expand(2, channels, *spatial).contiguous(), holds


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
