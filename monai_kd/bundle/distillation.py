"""The loss and the distiller of a student, made from a recipe."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from ..distillation import (
    AdaptInput,
    AdaptOutput,
    Distiller,
    Rehearsal,
    TeacherStore,
    rehearse,
    scaling_between,
)
from ..losses import DistillationLoss, Projections
from ..losses.inputs import check_inputs, offered
from ..losses.pairs import check_layers
from .running import parser_with
from .teacher import Teacher
from .teacher_output import matched_output
from .teacher_settings import NORMALIZATION, normalization_of
from .trained import black_images
from .trial_runs import (
    FAILURES,
    check_logits,
    check_student,
    check_terms,
    ended,
    failed_taps,
    sizes_hint,
    warn_of_probabilities,
)
from .volumes import check_same_voxels

__all__ = ["Distillation", "learns_unlabelled", "needs_teacher", "recipe_title"]

logger = logging.getLogger(__name__)

_HALF = 2  # bytes of a number in half precision


def needs_teacher(terms: Mapping[str, Callable[[], nn.Module]], weights: Mapping[str, float]) -> bool:
    """Whether a recipe has a loss term that needs a teacher.

    Raises:
        ValueError: as `DistillationLoss.from_recipe`.
    """
    return DistillationLoss.from_recipe(terms, weights).needs_teacher


def learns_unlabelled(terms: Mapping[str, Callable[[], nn.Module]], weights: Mapping[str, float]) -> bool:
    """Whether a recipe learns from images without a label, see `DistillationLoss.learns_unlabelled`.

    Raises:
        ValueError: as `DistillationLoss.from_recipe`.
    """
    return DistillationLoss.from_recipe(terms, weights).learns_unlabelled


def others_learn_unlabelled(weights: Mapping[str, float], term: str) -> bool:
    """`learns_unlabelled` of the terms of the running config but one, which itself depends on the answer.

    Such as a cross-entropy with weights that are counted from the labelled images.

    Raises:
        RuntimeError: no config is running.
        ValueError: as `learns_unlabelled`.
    """
    parser = parser_with("terms")
    # Names and weights are checked where the loss is built.
    others = {name: weight for name, weight in weights.items() if name != term and name in parser["terms"]}
    terms = {name: parser.get_parsed_content(f"terms::{name}") for name in others}
    return any(others.values()) and learns_unlabelled(terms, others)


def recipe_title(recipe: str, recipes: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> str:
    """How titles describe the loss: by the name of the recipe, or by the weights where they differ from the recipe's.

    Example:
        >>> recipe_title("none", {"none": {"ce": 1}}, {"ce": 1}), recipe_title("none", {"none": {"ce": 1}}, {"ce": 2})
        ('recipe none', 'weights ce 2')
    """
    if dict(recipes.get(recipe, {})) == dict(weights):
        return f"recipe {recipe}"
    return "weights " + ", ".join(f"{name} {weight:g}" for name, weight in weights.items())


class Distillation:
    """The loss and the distiller of a student and its teacher, for a recipe. Each is built on first access.

    Layers are tapped only where a term of the recipe compares features, and a teacher is loaded, or trained, only where
    a term needs one: any network can be trained with the supervised terms alone. Before any training, the student and
    an untrained teacher, where there is one, run once on a black image, and the terms once on random logits, so that a
    wrong size, tap, shape or loss is found.

    Args:
        student: the network to train.
        teacher: see `Teacher`.
        terms: name of each loss term to a function that builds it.
        weights: the recipe: name of a term to its weight.
        taps: name to module path in the student; `Teacher` has those of the teacher.
        settings: settings of the run, of which ``in_channels``, ``image_size``, ``spatial_dims``, ``mean`` and ``std``
            are used, and where they are there ``mask_names``, ``activation``, ``multiclass`` and ``volumes``.
        projection_side: see `Projections`.
        store: folder of a `TeacherStore`, or ``None``.
        images_repeat: whether the same images come again, as when flips are the only augmentation, or with ``views``.
        images: number of different images of the training, as the network gets them.
        store_limit: largest size of the store in GB; a teacher whose outputs take more, or more than is free on the
            disk, runs live instead, which is logged as a warning.

    Raises:
        ValueError: a store is given and images never repeat: it would fill the disk and never be read; the student does
            not take images of ``image_size``, or has not an output of this size for each mask; a term does not take
            logits and labels of this form; or as `DistillationLoss.from_recipe`, `rehearse` and `Teacher.load`.
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
        images: int | None = None,
        store_limit: float = 20.0,
    ) -> None:
        if store is not None and not images_repeat:
            raise ValueError(
                "teacher_store keeps the outputs of the teacher for each image, and with `augmentation`, "
                "`batch_augmentation`, `mixup`, negatives or patches of volumes no image occurs twice: leave "
                "teacher_store at null, or give `views`, the number of random views of an item that repeat (with "
                "batch_augmentation and mixup, no image does), or train with flips alone."
            )
        self.student, self.teacher, self.terms, self.weights = student, teacher, terms, weights
        self.taps, self.settings, self.projection_side, self.store = dict(taps), settings, projection_side, store
        self.images, self.store_limit = images, float(store_limit)
        # With the taps of the teacher; of a recipe that compares features, made while the loss is built.
        self._rehearsed: tuple[Rehearsal, dict[str, str]] | None = None

    @cached_property
    def loss(self) -> DistillationLoss:
        logits = check_student(self.student, self.settings)
        loss = DistillationLoss.from_recipe(self.terms, self.weights, self._projections)
        check_terms(loss, logits, self.settings)
        given, names = getattr(self.student, "classes", None), self.settings.get("class_names")
        if loss.needs_classes and given and names and given != len(names) + 1:
            raise ValueError(
                f"the network gives {given} classes, and the data list has {len(names)} ({', '.join(names)}), to which "
                "'no tumour' is added: network_def must have one more of `classes` than the data list has labels."
            )
        return loss

    @cached_property
    def _teacher_input(self) -> AdaptInput:
        """Turns the student's input into the input that the teacher was trained with."""
        student, teacher = self.settings, self.teacher.trained
        check_same_voxels(student, teacher)
        channels = None
        if student["in_channels"] != teacher["in_channels"]:
            if 1 not in (student["in_channels"], teacher["in_channels"]):
                raise ValueError(
                    f"the student takes {student['in_channels']} channels and the teacher {teacher['in_channels']} "
                    f"({self.teacher.origin_of('in_channels')}): only a single grey channel can be repeated to fit "
                    "another network. Set the student's in_channels, mean and std to fit."
                )
            channels = [0] * teacher["in_channels"]
        same_size, size = student["image_size"] == teacher["image_size"], None
        if not same_size and student.get("volumes"):
            # Slices are resized to what a network takes; patches of volumes keep the voxels of the file.
            logger.warning(
                "the student takes patches of %s and the teacher was trained with %s, %s: patches are NOT resized, so "
                "that the teacher gets those of the student. Give both the same image_size, unless the teacher does "
                "as well with it.",
                *(student["image_size"], teacher["image_size"], self.teacher.origin_of("image_size")),
            )
        elif not same_size:
            size = teacher["image_size"]
        transform, told = normalization_of(teacher), str(teacher.get(NORMALIZATION) or "")
        scaling = scaling_between(student, teacher)
        return AdaptInput(**scaling, channels=channels, size=size, transform=transform, told=told)

    @cached_property
    def _teacher_output(self) -> AdaptOutput | None:
        """Turns the teacher's logits into those of the student's outputs."""
        trained = self.teacher.trained
        return matched_output(self.settings, trained, self.teacher.named, planned=self.teacher.checkpoint is None)

    def _rehearse(self, taps: Mapping[str, str]) -> tuple[Rehearsal, dict[str, str]]:
        """The student and an untrained teacher, run once, and the taps of the teacher."""
        # Outputs are matched first: a network for others may not even be one that can be built.
        given: dict[str, Any] = {"teacher_output": self._teacher_output}
        untrained, image = self.teacher.untrained(), black_images(self.settings)
        teacher_taps = self.teacher.taps(untrained, list(taps)) if taps else {}
        teacher_image = self._teacher_input(image)
        given |= {"image": image, "teacher_image": teacher_image}
        try:
            found = rehearse(self.student, untrained, taps, teacher_taps, **given)
        except IndexError as error:
            if self._teacher_output is None:
                raise
            raise ValueError(f"the teacher, {type(untrained).__name__}, has other outputs: {error}") from None
        except FAILURES as error:
            if failed_taps(error):
                raise ValueError(str(error)) from None
            sizes, channels = " × ".join(map(str, teacher_image.shape[2:])), teacher_image.shape[1]
            its, own = self.teacher.trained["image_size"], self.settings["image_size"]
            follows = f"its image_size is {its}, {self.teacher.origin_of('image_size')}"
            if self.settings.get("volumes") and its != own:
                follows = f"patches have the image_size of the student, {own}, and {follows}"
            raise ValueError(
                f"the teacher, {type(untrained).__name__}, fails on an image of {sizes} with {channels} "
                f"channel{'s' if channels > 1 else ''}, {self.teacher.origin_of('in_channels')}; {follows}: "
                f"{ended(error)}{sizes_hint(error)}"
            ) from None
        if self.teacher.is_described:
            # Others were trained with losses that take logits.
            check_logits(untrained, teacher_image, "teacher")
        return found, teacher_taps

    def _projections(self) -> Projections:
        self._rehearsed = self._rehearse(self.taps)
        found, _ = self._rehearsed
        return Projections.fitted(found.student_shapes, found.teacher_shapes(), side=self.projection_side)

    @cached_property
    def distiller(self) -> Distiller:
        if self.projection_side != "teacher" and not self.loss.projections:
            logger.warning("projection_side: NOT used, since no term of this recipe compares features.")
        if not self.loss.needs_teacher:
            self.teacher.warn_unused()
            if self.store is not None:
                logger.warning("teacher_store: NOT used: this recipe has no teacher.")
            return Distiller(self.student)
        if self._rehearsed is None and self.loss.needs_features:
            self._rehearsed = self._rehearse(self.taps)
            check_layers(self._rehearsed[0].student_shapes, self._rehearsed[0].teacher_shapes())
        if self._rehearsed is None:
            self.teacher.warn_unused_taps()
        found, teacher_taps = self._rehearsed or self._rehearse({})
        student, teacher = (found.shapes[name][1:] for name in ("student", "teacher"))
        if student[0] != teacher[0]:
            raise ValueError(
                f"the student returns logits {student} and the teacher {teacher} for one image. Take a "
                "teacher of the same task; or, of one whose outputs are not described, give their names as "
                "teacher_settings#mask_names and activation, or class_names, by which they are matched."
            )
        check_inputs(self.loss.terms, offered(found.shapes))
        sizes = self.loss.feature_sizes(found.student_shapes, found.teacher_shapes())
        store = self._teacher_store(found, sizes)
        taps = self.taps if teacher_taps else {}
        network = self.teacher.load()
        if self.teacher.is_described:
            warn_of_probabilities(network, self._teacher_input(black_images(self.settings)))
        adapters = {"teacher_input": self._teacher_input, "teacher_output": self._teacher_output}
        return Distiller(self.student, network, taps, teacher_taps, store, feature_sizes=sizes, **adapters)

    def _teacher_store(self, found: Rehearsal, sizes: Mapping[str, tuple[int, ...]]) -> TeacherStore | None:
        """The store, unless the outputs for all images would be larger than the limit or the disk."""
        if self.store is None:
            return None
        features = (shape[1] * math.prod(sizes[name]) for name, shape in found.teacher_shapes().items())
        image_bytes = _HALF * (math.prod(found.shapes["teacher"][1:]) + sum(features))
        if self.images is not None:
            needed, folder = self.images * image_bytes / 1e9, Path(self.store).expanduser()
            present = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
            free = present + shutil.disk_usage(_existing(folder)).free / 1e9
            size = f"{image_bytes / 1e6:.2f} MB an image, {needed:.2f} GB for {self.images} images"
            if needed > min(self.store_limit, free):
                logger.warning(
                    "teacher_store: the outputs that this recipe needs take %s, and the limit is %.0f GB (%.0f GB are "
                    "free): the teacher runs LIVE. Give a larger --teacher_store_limit GB, or a recipe without full "
                    "features, see docs/training.md.",
                    *(size, self.store_limit, free),
                )
                return None
            logger.info("teacher_store: outputs of the teacher will take %s, in %s.", size, self.store)
        logger.info("teacher_store: delete %s when no run needs it.", self.store)
        return TeacherStore(self.store, self.images)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one around it that exists."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
