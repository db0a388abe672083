"""What a student may learn through its teacher of slices that it must not see."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from ..data import data_known, same_data, trainings

__all__ = ["warn_of_leaks"]

logger = logging.getLogger(__name__)


def warn_of_leaks(
    named: str, trained: Mapping[str, Any], dataset_dir: str | Path, kept_from: Set[Any], labelled_share: float
) -> None:
    """Log a warning for each way in which a teacher has seen more than its student, or may have.

    Args:
        named: the teacher, for the messages.
        trained: its settings, or those that it will have.
        dataset_dir: data set of the student.
        kept_from: folds that the student is not trained on.
        labelled_share: share of the patients whose labels the student uses.
    """
    folder, runs = trained.get("dataset_dir"), trainings(trained)
    known, here = all(map(data_known, runs)), [run for run in runs if same_data(run, dataset_dir)]
    if labelled_share < trained["labelled_share"] and (here or not known):
        logger.warning(
            "labelled_share is %g, and %s was trained with %g: through it, labels that are hidden from the student may "
            "reach it.",
            *(labelled_share, named, trained["labelled_share"]),
        )
    if not known:
        logger.warning(
            "The training data of %s is not known: if it includes slices that validate the student, the student's "
            "metrics are better than on new slices.",
            named,
        )
    elif len(here) < len(runs):
        logger.warning(
            "The teacher was trained on %s, and the student is trained on %s: if the teacher's data include patients "
            "that validate the student, the student's metrics are better than on new patients.",
            folder or "another data set",
            dataset_dir,
        )
    # Of an ensemble, some networks may be of these data, and others of other or unknown ones.
    unseen = [{run.get("fold"), *(run.get("leave_out") or [])} for run in here]
    if seen := sorted(set().union(*(kept_from - {None} - folds for folds in unseen))):
        logger.warning(
            "The teacher was TRAINED ON the folds %s, on which the student is not trained: through the teacher they "
            "leak into the student, whose metrics on them are better than on new slices. Take a teacher trained with "
            "the same `fold` and `leave_out`.",
            seen,
        )
