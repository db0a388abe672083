"""The loss and the distiller of a student, made from a recipe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ..distillation import AdaptInput, Distiller, TeacherStore, fitted_projections, rehearse
from ..losses import DistillationLoss, Projections
from .teacher import Teacher

__all__ = ["Distillation", "needs_teacher", "recipe_title"]

logger = logging.getLogger(__name__)

# Normalisation that changes nothing.
_NO_SCALING = {"mean": 0.0, "std": 1.0}


def needs_teacher(terms: Mapping[str, Callable[[], nn.Module]], weights: Mapping[str, float]) -> bool:
    """Whether a recipe has a term that compares with a teacher.

    Raises:
        ValueError: as `DistillationLoss.from_recipe`.
    """
    return DistillationLoss.from_recipe(terms, weights).needs_teacher


def recipe_title(recipe: str, recipes: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> str:
    """What the weights are called in titles: the name of the recipe, or the weights themselves where they differ.

    Example:
        >>> recipe_title("none", {"none": {"ce": 1}}, {"ce": 1}), recipe_title("none", {"none": {"ce": 1}}, {"ce": 2})
        ('recipe none', 'weights ce 2')
    """
    if dict(recipes.get(recipe, {})) == dict(weights):
        return f"recipe {recipe}"
    return "weights " + ", ".join(f"{name} {weight:g}" for name, weight in weights.items())


class Distillation:
    """What a recipe makes of a student and its teacher, each part built when it is first asked for.

    Layers are tapped only where a term of the recipe compares features, and a teacher is loaded, or trained, only where
    a term compares with one: with the supervised terms alone any network trains. Before a teacher is trained, student
    and an untrained teacher run once on a black image, so that a wrong tap or a wrong shape costs no training.

    Args:
        student: the network to train.
        teacher: see `Teacher`.
        terms: name to what builds a loss term.
        weights: the recipe: name of a term to its weight.
        taps: name to module path in the student; the teacher's are its own.
        settings: of the run, of which ``in_channels``, ``image_size`` and ``spatial_dims`` are used.
        projection_side: see `Projections`.
        store: folder of a `TeacherStore`, or ``None``.
        images_repeat: whether the same images come in every epoch, as with flips alone.

    Raises:
        ValueError: a store is given and images never repeat: it would fill the disk and never be read; or as
            `DistillationLoss.from_recipe`, `rehearse` and `Teacher.load`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        terms: Mapping[str, Callable[[], nn.Module]],
        weights: Mapping[str, float],
        taps: Mapping[str, str],
        settings: Mapping[str, Any],
        projection_side: str = "teacher",
        store: str | None = None,
        images_repeat: bool = True,
    ) -> None:
        if store is not None and not images_repeat:
            raise ValueError(
                "teacher_store keeps the outputs of the teacher for each image, and with `augmentation` or `mixup` no "
                "image comes twice: leave teacher_store at null, or train with flips alone."
            )
        self.student, self.teacher, self.terms, self.weights = student, teacher, terms, weights
        self.taps, self.settings, self.projection_side, self.store = dict(taps), settings, projection_side, store

    @cached_property
    def loss(self) -> DistillationLoss:
        return DistillationLoss.from_recipe(self.terms, self.weights, self._projections)

    @cached_property
    def _teacher_input(self) -> AdaptInput:
        """What makes of the student's batch the input that the teacher was trained with."""
        own, its = self.settings, self.teacher.trained
        channels = None
        if own["in_channels"] != its["in_channels"]:
            if 1 not in (own["in_channels"], its["in_channels"]):
                raise ValueError(
                    f"the student takes {own['in_channels']} channels and the teacher {its['in_channels']}: only one "
                    "grey channel can be repeated for another network."
                )
            channels = [0] * its["in_channels"]
        return AdaptInput(
            **{f"{name}_from": default if own[name] is None else own[name] for name, default in _NO_SCALING.items()},
            **{f"{name}_to": default if its[name] is None else its[name] for name, default in _NO_SCALING.items()},
            channels=channels,
            size=None if own["image_size"] == its["image_size"] else its["image_size"],
        )

    def _check_masks(self) -> None:
        """Refuse a teacher whose channels mean something else, be they equally many."""
        both = (self.settings, self.teacher.trained)
        # Of a classification neither is there; what a single mask is called makes no difference.
        if not all("mask_names" in each for each in both) or all(len(each["mask_names"]) == 1 for each in both):
            return
        own, its = (f"{', '.join(each['mask_names'])} ({each['activation']})" for each in both)
        if own != its:
            raise ValueError(
                f"the student segments {own} and the teacher {its}: take a teacher that was trained for the same "
                "classes, with the same `multiclass`."
            )

    def _example(self) -> torch.Tensor:
        # Two images: BatchNorm of a network that is left in training mode needs them.
        size = self.settings["image_size"]
        sides = size if isinstance(size, (list, tuple)) else [size] * self.settings["spatial_dims"]
        return torch.zeros(2, self.settings["in_channels"], *sides)

    def _projections(self) -> Projections:
        untrained, image = self.teacher.untrained(), self._example()
        taps = self.teacher.taps(untrained, list(self.taps))
        return fitted_projections(
            self.student,
            untrained,
            self.taps,
            taps,
            image=image,
            teacher_image=self._teacher_input(image),
            side=self.projection_side,
        )

    @cached_property
    def distiller(self) -> Distiller:
        if not self.loss.needs_teacher:
            self.teacher.warn_unused()
            return Distiller(self.student)
        self._check_masks()
        untrained, image = self.teacher.untrained(), self._example()
        own = self.taps if self.loss.needs_features else {}
        others = self.teacher.taps(untrained, list(own)) if own else {}
        adapt = self._teacher_input
        found = rehearse(self.student, untrained, own, others, image=image, teacher_image=adapt(image)).outputs
        student, teacher = (tuple(found[name].shape[1:]) for name in ("student", "teacher"))
        if student[0] != teacher[0]:
            raise ValueError(
                f"the student returns logits {student} and the teacher {teacher} for one image: they must have the "
                "same classes. Take a teacher of the same task, see docs/training.md."
            )
        store = None
        if self.store is not None:
            line = "teacher_store: outputs of the teacher are kept in %s; delete it when no run needs it."
            logger.info(line, self.store)
            store = TeacherStore(self.store)
        return Distiller(self.student, self.teacher.load(), own, others, store, adapt)
