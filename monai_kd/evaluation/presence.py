"""The part of a `MaskReport` on the presence of a tumour."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from data_prep.disk import check_writable

from ..io.atomic import write_json
from ..io.plain import plain_tensor
from ..io.trained import READER_FILE, add_settings, extendable_settings
from ..metrics import (
    FROC_RATES,
    PRESENCE_SCORES,
    PresenceRule,
    SliceMarks,
    choose_operating_point,
    classifier_of,
    froc_curve,
    joined_presence,
    presence_score,
    presence_table,
    roc_curve,
    slice_marks,
    summarise_presence,
)
from ..plots import plot_froc, plot_roc

__all__ = ["PresenceReport"]

logger = logging.getLogger(__name__)


class Reader(Protocol):
    """A classifier that is asked about slices, such as `monai_kd.inference.second_reader.SecondReader`."""

    @property
    def sha256(self) -> str: ...

    def __call__(self, images: torch.Tensor) -> np.ndarray: ...

    def save(self, path: str | Path) -> None: ...


class PresenceReport:
    """Presence scores and marks of slices while an evaluator runs; curves, and an operating point, when it ends.

    Args:
        score: the presence score of the operating point, one of `PRESENCE_SCORES`.
        specificity: specificity by slice for which a threshold is chosen; ``None``: none is chosen.
        checkpoint: the weights, whose ``settings.json`` gets the ``operating_point``.
        resamples, seed: of the bootstrap.
        operating_point: of the weights; it is measured unless another one is chosen, or it belongs to another reader.
        reader: a classifier, whose answers are part of the scores, see `monai_kd.metrics.joined_presence`; it is copied
            beside the weights with the operating point.

    Raises:
        ValueError: the score is unknown; a specificity has no checkpoint; the operating point lacks a value.
    """

    def __init__(
        self,
        score: str,
        specificity: float | None,
        checkpoint: str | Path | None,
        resamples: int,
        seed: int,
        operating_point: Mapping[str, Any] | None = None,
        reader: Reader | None = None,
    ) -> None:
        if score not in PRESENCE_SCORES:
            raise ValueError(f"presence must be one of {', '.join(PRESENCE_SCORES)}, got {score!r}.")
        if specificity is not None and checkpoint is None:
            raise ValueError("specificity: give the checkpoint whose settings get the operating point.")
        self.score, self.specificity, self.checkpoint = score, specificity, Path(checkpoint or "")
        self.resamples, self.seed = resamples, seed
        self.reader, self.read_by = reader, None if reader is None else reader.sha256
        self.rule = None if operating_point is None or specificity is not None else PresenceRule.of(operating_point)
        chosen_with = classifier_of(operating_point)
        if self.rule is not None and chosen_with != self.read_by:
            logger.warning(
                "the operating point of these weights was chosen %s classifier: what it gives is NOT measured.",
                "without a" if chosen_with is None else "with another",
            )
            self.rule = None
        self.marks: list[SliceMarks] = []

    def begin(self) -> None:
        """Forget the slices of an earlier run, and check that an operating point can be written when this one ends.

        Raises:
            OSError: the folder of the checkpoint is not writable.
            FileNotFoundError, ValueError: as `extendable_settings`.
        """
        self.marks = []
        if self.specificity is not None:
            check_writable(self.checkpoint.parent)
            extendable_settings(self.checkpoint)

    def measure(
        self,
        probability: torch.Tensor,
        predicted: torch.Tensor,
        true: torch.Tensor,
        pixel_mm2: float,
        image: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        """The columns of one slice: presence scores, lesions, lesions found, false marks and their area.

        Args:
            image: as the network got it, for the reader.

        Raises:
            ValueError: there is a reader and no image.

        Shape:
            - all but the image: (C, H, W), without the background
        """
        marks = slice_marks(probability, predicted, true)
        self.marks.append(marks)
        scores = {kind: presence_score(probability, kind) for kind in PRESENCE_SCORES}
        asked = {}
        if self.reader is not None:
            if image is None:
                raise ValueError("the output of the evaluation has no image, which the classifier is asked about.")
            asked = {"p_tumour": float(self.reader(plain_tensor(image)[None])[0])}
            joined = joined_presence(np.array(list(scores.values())), np.full(len(scores), asked["p_tumour"]))
            scores = dict(zip(scores, joined.tolist(), strict=True))
        return {
            **asked,
            **{f"presence_{kind}": each for kind, each in scores.items()},
            "lesions": len(marks.lesions),
            "lesions_found": sum(score > 0 for score in marks.lesions),
            "false_marks": len(marks.false),
            "false_area_mm2": marks.false_pixels * pixel_mm2,
        }

    def write(
        self, rows: Sequence[dict[str, Any]], folder: Path, title: str, measured_on: str
    ) -> tuple[dict[str, Any], str, list[str]]:
        """Draw the curves and choose the operating point; for ``metrics.json``, for the console, and the files."""
        summary = summarise_presence(rows, self.marks, list(PRESENCE_SCORES), self.resamples, self.seed, self.rule)
        if summary is None:
            if self.specificity is not None:
                logger.warning(
                    "specificity: no slice without a tumour is evaluated, so that NO operating point is chosen. Give "
                    "--negative_share 0.5, or a data set with such slices."
                )
            return {}, "", []
        truth, files, point = [row["truth_area_mm2"] > 0 for row in rows], list[str](), None
        if self.specificity is not None:
            point = self._choose(self.specificity, rows, truth, folder, measured_on)
        if point is not None:
            summary["operating_point"] = point
            files.append("operating_point.json")
        if any(truth):
            files += self._draw(summary, rows, truth, folder, title)
        return {"presence": summary}, presence_table(summary), files

    def _draw(
        self, summary: Mapping[str, Any], rows: Sequence[dict[str, Any]], truth: list[bool], folder: Path, title: str
    ) -> list[str]:
        curves = {f"score {kind}": roc_curve(_scores(rows, kind), truth)[:2] for kind in PRESENCE_SCORES}
        by_slice = [summary[name]["by_slice"]["value"] for name in ("specificity", "sensitivity")]
        points = {"predicted mask": (1 - by_slice[0], by_slice[1])}
        if (point := summary.get("operating_point")) is not None:
            points["operating point"] = (1 - point["specificity"], point["sensitivity"])
        plot_roc(curves, folder / "roc.png", title, points)
        plot_froc(froc_curve(self.marks), folder / "froc.png", title, FROC_RATES)
        return ["roc.png", "froc.png"]

    def _choose(
        self, specificity: float, rows: Sequence[dict[str, Any]], truth: list[bool], folder: Path, measured_on: str
    ) -> dict[str, Any] | None:
        scores = _scores(rows, self.score)
        try:
            point = choose_operating_point(scores, truth, specificity, self.score, measured_on)
        except ValueError as error:
            logger.warning("NO operating point is chosen: %s", error)
            return None
        if self.reader is not None:
            self.reader.save(self.checkpoint.with_name(READER_FILE))
            point["classifier"] = self.read_by
        write_json(point, folder / "operating_point.json")
        add_settings(self.checkpoint, {"operating_point": point})
        logger.info(
            "operating point: score %s, threshold %.4f, specificity %.3f, sensitivity %s; added to the settings.json "
            "beside %s.",
            *(point[name] for name in ("score", "threshold", "specificity")),
            "unknown, as no slice shows a tumour" if point["sensitivity"] is None else f"{point['sensitivity']:.3f}",
            self.checkpoint,
        )
        return point


def _scores(rows: Sequence[dict[str, Any]], kind: str) -> list[float]:
    return [row[f"presence_{kind}"] for row in rows]
