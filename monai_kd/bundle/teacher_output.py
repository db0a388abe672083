"""Which outputs of a teacher are those of a student, by the names in their settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..data import NO_TUMOUR
from ..distillation import AdaptOutput

__all__ = ["matched_output"]

logger = logging.getLogger(__name__)

_RENAMED = (
    "Give one that has; or, if it has other names for the same, or for parts of it, all its names as the student has "
    "them, as teacher_settings#{} in a file, see docs/training.md"
)


def matched_output(
    student: Mapping[str, Any], teacher: Mapping[str, Any], named: str, planned: bool = False
) -> AdaptOutput | None:
    """What turns the logits of a teacher into those of a student's masks or classes; ``None`` where nothing differs.

    The teacher may have more masks or classes, in any order, and another activation. What it has several times by the
    same name is one mask or class of the student, see `AdaptOutput`. The name of a mask makes no difference where both
    networks have a single one.

    Args:
        student, teacher: settings of the runs, of which ``mask_names`` and ``activation``, or ``class_names`` are used.
        named: the teacher, for messages.
        planned: whether it is trained first, by the config of the student.

    Raises:
        ValueError: the student has a mask or a class that the teacher does not have, or its probability does not follow
            from those of the teacher, whose masks overlap.
    """
    if "mask_names" in student:
        return _of_masks(student, teacher, named, planned) if teacher.get("mask_names") else None
    names, its = list(student.get("class_names") or []), list(teacher.get("class_names") or [])
    if not names or not its or names == its:
        return None
    said = f"{named} was trained for the classes {', '.join(its)}, and the student learns {', '.join(names)}"
    remedy = "Give one that has" if planned else _RENAMED.format("class_names")
    if NO_TUMOUR in names and NO_TUMOUR not in its:
        remedy += ". A negative_probability above 0 in its training adds the class no tumour"
    channels = _places(names, its, said, remedy)
    logger.info("teacher: of its classes, %s, it teaches %s.", ", ".join(its), ", ".join(names))
    return AdaptOutput(channels, "softmax", "softmax", background=False, outputs=len(its))


def _of_masks(student: Mapping[str, Any], teacher: Mapping[str, Any], named: str, planned: bool) -> AdaptOutput | None:
    names, its = list(student["mask_names"]), list(teacher["mask_names"])
    target, source = student["activation"], teacher["activation"]
    own, others = f"{', '.join(names)} ({target})", f"{', '.join(its)} ({source})"
    alike = names == its or len(names) == len(its) == 1
    if alike and source == target:
        return None
    said, exclusive = f"the student segments {own}, and {named} {others}", source == "softmax"
    remedy = "Give both networks the same multiclass" if planned else _RENAMED.format("mask_names")
    if target == "softmax" and not exclusive:
        remedy += ", or train the student with --multiclass False"
    places = [[n] for n in range(len(names))] if alike else _places(names, its, said, remedy)
    if not exclusive and (any(len(each) > 1 for each in places) or (target == "softmax" and len(names) > 1)):
        raise ValueError(
            f"{said}: masks by sigmoid may overlap, so that the probabilities of a softmax, or of several as one, "
            "do not follow from theirs. Train the student with --multiclass False for masks of the same names, or take "
            "a teacher by softmax."
        )
    logger.info("teacher: of its masks, %s, it teaches %s.", others, own)
    channels = [[place + exclusive for place in each] for each in places]
    return AdaptOutput(channels, source, target, outputs=len(its) + exclusive)


def _places(names: Sequence[str], its: Sequence[str], said: str, remedy: str) -> list[list[int]]:
    """The places of each name among the teacher's."""
    if lacking := " and no ".join(repr(name) for name in names if name not in its):
        raise ValueError(f"{said}: it has no {lacking}. {remedy}.")
    return [[place for place, its_name in enumerate(its) if its_name == name] for name in names]
