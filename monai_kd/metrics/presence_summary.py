"""How well the presence of a tumour is recognised: by slice, by examination and by lesion, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_froc_curve_data, compute_froc_score, compute_roc_auc

from .auc import auc_of_resamples
from .bootstrap import bootstrap_interval, resampled_interval, resampled_intervals
from .marks import SliceMarks
from .patients import grouped
from .presence_rule import PresenceRule
from .presence_shares import specificity_of_resamples
from .tables import text_table

__all__ = ["FROC_RATES", "froc_curve", "presence_table", "summarise_class_presence", "summarise_presence"]

FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
"""False marks a slice at which the FROC score takes the sensitivity by lesion."""

SENSITIVITY = 0.9
"""By slice, at which the specificity of each presence score is given."""

AT_SENSITIVITY = f"specificity_at_sensitivity_{SENSITIVITY:g}"

Row = Mapping[str, Any]


def summarise_presence(
    rows: Sequence[Row],
    marks: Sequence[SliceMarks],
    scores: Sequence[str],
    resamples: int,
    seed: int,
    rule: PresenceRule | None = None,
) -> dict[str, Any] | None:
    """Sensitivity, specificity, false marks, AUC and FROC, each with a 95 % bootstrap interval over patients.

    A slice has a tumour if its true mask has a pixel, and is marked if its predicted mask has one. An examination is
    all slices of a ``group``: it has a tumour if one of its slices has, and is marked if one of them is.

    Args:
        rows: one for each slice: ``group``, ``truth_area_mm2``, ``predicted_area_mm2``, ``false_area_mm2`` and
            ``presence_<score>``.
        marks: those of each slice.
        scores: names of the presence scores.
        resamples: number of resamples of the bootstrap; 0 for no intervals.
        seed: seed of the bootstrap.
        rule: an operating point that was chosen before, on other slices.

    Returns:
        ``None`` if all slices have a tumour. Otherwise ``slices_with_tumour`` and ``tumour_free_slices``;
        ``sensitivity`` and ``specificity``, each ``by_slice`` and ``by_examination``; with a rule,
        ``at_operating_point``: its ``score`` and ``threshold``, and the same of the masks that it leaves;
        ``false_marks`` and ``false_area_mm2``, means over the ``tumour_free_slices`` and over ``all_slices``; ``auc``
        and ``specificity_at_sensitivity_0.9``, by score, of slices; and ``froc``: ``score``, the mean sensitivity by
        lesion at `FROC_RATES`, and
        ``sensitivity_at`` each rate. A value has ``value``, ``interval_95`` (both may be ``None``) and ``of``, the
        number of slices, examinations or lesions.
    """
    present = np.array([row["truth_area_mm2"] > 0 for row in rows])
    if present.all():
        return None
    slices = _Slices(present, [str(row["group"]) for row in rows], resamples, seed)
    marked = np.array([row["predicted_area_mm2"] > 0 for row in rows])
    found = {name: np.array([row[f"presence_{name}"] for row in rows]) for name in scores}
    recognised = slices.recognised(marked, found)
    if rule is not None:
        left = slices.rates(marked & rule.passed(found[rule.score]))
        recognised["at_operating_point"] = {"score": rule.score, "threshold": rule.threshold, **left}
    false_marks = np.array([len(each.false) for each in marks], dtype=float)
    false_area = np.array([row["false_area_mm2"] for row in rows])
    everywhere = np.ones_like(present)
    return {
        **recognised,
        **{
            name: {"tumour_free_slices": slices.mean(values, ~present), "all_slices": slices.mean(values, everywhere)}
            for name, values in (("false_marks", false_marks), ("false_area_mm2", false_area))
        },
        "froc": _froc(marks, slices.members, resamples, seed),
    }


def summarise_class_presence(rows: Sequence[Row], no_tumour: str, resamples: int, seed: int) -> dict[str, Any] | None:
    """As `summarise_presence`, of a classification that knows the class "no tumour".

    A slice is marked if another class is the most probable one; its presence score ``p_tumour`` is the probability of
    all other classes.

    Args:
        rows: one for each slice: ``group``, ``class_name``, ``predicted_name`` and ``p_<no_tumour>``.
        no_tumour: name of the class.
        resamples, seed: of the bootstrap.

    Returns:
        ``None`` if all slices have a tumour. Otherwise ``slices_with_tumour``, ``tumour_free_slices``, ``sensitivity``,
        ``specificity``, ``auc`` and ``specificity_at_sensitivity_0.9``.
    """
    present = np.array([row["class_name"] != no_tumour for row in rows])
    if present.all():
        return None
    marked = np.array([row["predicted_name"] != no_tumour for row in rows])
    scores = {"p_tumour": np.array([1 - row[f"p_{no_tumour}"] for row in rows])}
    return _Slices(present, [str(row["group"]) for row in rows], resamples, seed).recognised(marked, scores)


class _Slices:
    """Slices with and without a tumour, and the examinations that they belong to."""

    def __init__(self, present: np.ndarray, groups: Sequence[str], resamples: int, seed: int) -> None:
        self.present, self.resamples, self.seed = present, resamples, seed
        self.members = [np.array(own) for own in grouped(range(len(groups)), groups.__getitem__).values()]

    def mean(self, values: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
        members = [own for own in self.members if chosen[own].any()]
        totals = [float(values[own][chosen[own]].sum()) for own in members]
        return self._share(totals, [int(chosen[own].sum()) for own in members])

    def recognised(self, marked: np.ndarray, scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {
            "slices_with_tumour": int(self.present.sum()),
            "tumour_free_slices": int((~self.present).sum()),
            **self.rates(marked),
            "auc": {name: self._auc(values) for name, values in scores.items()},
            AT_SENSITIVITY: {name: self._specificity(values) for name, values in scores.items()},
        }

    def rates(self, marked: np.ndarray) -> dict[str, Any]:
        present = self.present
        exam_present = np.array([present[own].any() for own in self.members])
        exam_marked = np.array([marked[own].any() for own in self.members])
        return {
            "sensitivity": {
                "by_slice": self.mean(marked, present),
                "by_examination": self._exams(exam_marked[exam_present]),
            },
            "specificity": {
                "by_slice": self.mean(~marked, ~present),
                "by_examination": self._exams(~exam_marked[~exam_present]),
            },
        }

    def _exams(self, hits: np.ndarray) -> dict[str, Any]:
        return self._share([float(hit) for hit in hits], [1] * len(hits))

    def _share(self, totals: list[float], weights: list[int]) -> dict[str, Any]:
        interval = bootstrap_interval(totals, weights, self.resamples, self.seed)
        return _value(sum(totals) / sum(weights) if weights else None, interval, sum(weights))

    def _auc(self, scores: np.ndarray) -> dict[str, Any]:
        if not self.present.any():
            return _value(None, None, len(scores))
        statistic = auc_of_resamples(scores, self.present, self.members)
        area = compute_roc_auc(torch.as_tensor(scores), torch.as_tensor(self.present).int())
        interval = resampled_interval(len(self.members), self.resamples, self.seed, statistic)
        return _value(float(np.asarray(area)), interval, len(scores))

    def _specificity(self, scores: np.ndarray) -> dict[str, Any]:
        if not self.present.any():
            return _value(None, None, 0)
        statistic = specificity_of_resamples(SENSITIVITY, scores, self.present, self.members)
        value = float(statistic(np.ones((1, len(self.members))))[0])
        interval = resampled_interval(len(self.members), self.resamples, self.seed, statistic)
        return _value(value, interval, int((~self.present).sum()))


def _value(value: float | None, interval: tuple[float, float] | None, of: int) -> dict[str, Any]:
    return {"value": value, "interval_95": None if interval is None else list(interval), "of": of}


def froc_curve(marks: Sequence[SliceMarks]) -> tuple[np.ndarray, np.ndarray]:
    """Free-response ROC: false marks a slice, and the share of lesions found, as the threshold of the marks falls.

    Raises:
        ValueError: there are no slices, or no lesions.
    """
    lesions = np.array([score for each in marks for score in each.lesions])
    # MONAI leaves out the lowest score, which it takes for that of missed lesions: there is always one of 0.
    false = np.array([0.0, *(score for each in marks for score in each.false)])
    if not len(lesions):
        raise ValueError("a FROC curve needs slices with lesions.")
    rates, found = compute_froc_curve_data(false, lesions, len(lesions), len(marks))
    return rates[::-1], found[::-1]


def _froc(marks: Sequence[SliceMarks], members: list[np.ndarray], resamples: int, seed: int) -> dict[str, Any]:
    count = sum(len(each.lesions) for each in marks)
    if not count:
        return {"score": _value(None, None, 0), "sensitivity_at": {}}
    rates, found = froc_curve(marks)
    thresholds = np.unique([score for each in marks for score in (*each.lesions, *each.false) if score > 0])[::-1]

    def above(scores: list[float]) -> np.ndarray:
        return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")

    # How many of each patient have at least each score: (patients, thresholds).
    hits = np.stack([above([score for index in own for score in marks[index].lesions]) for own in members])
    false = np.stack([above([score for index in own for score in marks[index].false]) for own in members])
    lesions = np.array([sum(len(marks[index].lesions) for index in own) for own in members])
    slices = np.array([len(own) for own in members])

    def sensitivities(times: np.ndarray) -> np.ndarray:
        """At each rate, (B, rates)."""
        shares = (times @ hits) / np.maximum(times @ lesions, 1)[:, None]
        per_slice = (times @ false) / (times @ slices)[:, None]
        curves = zip(per_slice, shares, strict=True)
        values = np.array([np.interp(FROC_RATES, [0, *rate], [0, *share]) for rate, share in curves])
        return np.where((times @ lesions > 0)[:, None], values, np.nan)

    def with_mean(times: np.ndarray) -> np.ndarray:
        each = sensitivities(times)
        return np.column_stack([each.mean(axis=1), each])

    interval, *own = resampled_intervals(len(members), resamples, seed, with_mean, 1 + len(FROC_RATES))
    at = {
        f"{rate:g}": _value(float(np.interp(rate, rates, found)), each, count)
        for rate, each in zip(FROC_RATES, own, strict=True)
    }
    score = float(compute_froc_score(rates[::-1], found[::-1], FROC_RATES))
    return {"score": _value(score, interval, count), "sensitivity_at": at}


def presence_table(summary: Mapping[str, Any]) -> str:
    """Text table of the result of `summarise_presence` or `summarise_class_presence`."""
    lines = [["", "value", "95 % interval", "of"]]
    named = {
        f"{name} {by.replace('_', ' ')}{rule}": part[name][by]
        for rule, part in (("", summary), (", by the operating point", summary.get("at_operating_point")))
        if part is not None
        for name in ("sensitivity", "specificity")
        for by in _BY
    }
    if "froc" in summary:
        named["false marks on a tumour-free slice"] = summary["false_marks"]["tumour_free_slices"]
        named["false area on a tumour-free slice, mm²"] = summary["false_area_mm2"]["tumour_free_slices"]
    named |= {f"AUC of {name}": value for name, value in summary["auc"].items()}
    at = summary.get(AT_SENSITIVITY, {})
    named |= {f"specificity at a sensitivity of {SENSITIVITY:g}, {name}": value for name, value in at.items()}
    if "froc" in summary:
        named["FROC score by lesion"] = summary["froc"]["score"]
    for name, entry in named.items():
        value, interval = entry["value"], entry["interval_95"]
        shown = "undefined" if value is None else f"{value:.3f}"
        lines.append([name, shown, "" if interval is None else "{:.3f} to {:.3f}".format(*interval), str(entry["of"])])
    return text_table(lines)


_BY = ("by_slice", "by_examination")
