"""Evaluation of a classification."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.utils.enums import CommonKeys as Keys
from scipy.special import softmax

from ..data import NO_TUMOUR
from ..io.atomic import write_json
from ..io.trained import TEMPERATURE_FILE
from ..metrics import (
    class_patient_rows,
    class_summary_table,
    cross_fitted_temperatures,
    fit_temperature,
    presence_table,
    roc_curve,
    rows_of_kinds,
    summarise_class_presence,
    summarise_classes,
    write_rows,
)
from ..plots import plot_confusion, plot_reliability, plot_roc
from .report import EvaluationReport

__all__ = ["ClassReport"]

logger = logging.getLogger(__name__)


class ClassReport(EvaluationReport):
    """`EvaluationReport` of a classification: `monai_kd.metrics.class_metrics` over slices and over patients.

    Attach it to an evaluator whose output has logits (C,) in ``pred`` and the number of the class in ``label``.

    Of a network that knows the class "no tumour", ``metrics.json`` also has ``kinds``, the same metrics of the slices
    with a tumour among the other classes, see `monai_kd.metrics.rows_of_kinds`, and, where slices without a tumour are
    evaluated, ``presence``, see `monai_kd.metrics.summarise_class_presence`, with its curve in ``roc.png``.

    Output files: ``slices.csv``, ``patients.csv`` (mean probabilities over the slices of a patient), ``confusion.csv``
    (rows are true classes), ``confusion.png``, ``reliability.png``, the last three also for patients with ``_patients``
    in their name, ``metrics.json``, and with ``calibrate`` also ``temperature.json``.

    Args:
        args, kwargs: as for `EvaluationReport`.
        trained_names: names of the classes that the network was trained for, in their order: those of the data list,
            or with "no tumour" behind them.
        temperature: the logits are divided by it.
        calibrate: whether to fit a temperature to these slices, see `monai_kd.metrics.fit_temperature`, and write it to
            ``temperature.json``. Its effect on the metrics is reported in ``calibrated``, with temperatures that are
            fitted to other patients, see `monai_kd.metrics.cross_fitted_temperatures`. If a temperature can't be
            fitted, ``undefined`` has the reason.

    Raises:
        ValueError: the classes of the network are not those of the data set, or the temperature is not positive; while
            running: the network returns another number of logits; or as `EvaluationReport`.
    """

    def __init__(
        self,
        *args: Any,
        trained_names: Sequence[str] | None = None,
        temperature: float = 1.0,
        calibrate: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if trained_names is not None:
            self.check_classes(trained_names, NO_TUMOUR)
        self.class_names = list(trained_names or self.class_names)
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature, self.calibrate = float(temperature), bool(calibrate)
        self._logits: list[np.ndarray] = []

    def begin(self) -> None:
        super().begin()
        self._logits = []

    def measure(self, output: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
        logits = np.asarray(output[Keys.PRED], dtype=np.float64)
        if logits.shape != (len(self.class_names),):
            raise ValueError(
                f"the network returns logits {logits.shape} for {entry['image']}; the data list names "
                f"{len(self.class_names)} classes: {', '.join(self.class_names)}."
            )
        self._logits.append(logits)
        true = int(output[Keys.LABEL])
        own = {"class": true, "class_name": self.class_names[true]}
        return {**own, **self._prediction(logits, self.temperature, true)}

    def _prediction(self, logits: np.ndarray, temperature: float, true: int) -> dict[str, Any]:
        probabilities = softmax(logits / temperature)
        predicted = int(probabilities.argmax())
        return {
            "predicted": predicted,
            "predicted_name": self.class_names[predicted],
            "correct": predicted == true,
            **{f"p_{name}": float(p) for name, p in zip(self.class_names, probabilities, strict=True)},
        }

    def write(self) -> tuple[dict[str, Any], str, Sequence[str]]:
        summary = summarise_classes(self.rows, self.class_names, self.bootstrap, self.seed)
        write_rows(self.rows, self.output_dir / "slices.csv")
        patients = class_patient_rows(self.rows)
        write_rows(patients, self.output_dir / "patients.csv")
        over_slices, over_patients = (summary[name]["confusion"] for name in ("over_slices", "over_patients"))
        files = ["slices.csv", "patients.csv"]
        files += self._confusion_and_reliability(self.rows, "slices", over_slices)
        files += self._confusion_and_reliability(patients, "patients", over_patients, ending="_patients")
        found = {"temperature": self.temperature, **summary}
        if self.calibrate:
            found["calibrated"] = self._calibrated(files)
        tables = [class_summary_table(summary)]
        if NO_TUMOUR in self.class_names:
            tables += self._presence_and_kinds(found, files)
        return found, "\n\n".join(tables), files

    def _presence_and_kinds(self, found: dict[str, Any], files: list[str]) -> list[str]:
        """Add both to the content of ``metrics.json``, and the picture to the files; their tables."""
        tables = []
        presence = summarise_class_presence(self.rows, NO_TUMOUR, self.bootstrap, self.seed)
        if presence is not None:
            found["presence"] = presence
            tables.append(presence_table(presence))
            if presence["slices_with_tumour"]:
                files.append(self._draw_presence(presence))
        kinds = [name for name in self.class_names if name != NO_TUMOUR]
        if len(kinds) > 1 and (rows := rows_of_kinds(self.rows, NO_TUMOUR)):
            found["kinds"] = summarise_classes(rows, kinds, self.bootstrap, self.seed)
            tables.append(f"kinds of the tumours, of the slices with one\n{class_summary_table(found['kinds'])}")
        return tables

    def _draw_presence(self, presence: Mapping[str, Any]) -> str:
        truth = [row["class_name"] != NO_TUMOUR for row in self.rows]
        curve = roc_curve([1 - row[f"p_{NO_TUMOUR}"] for row in self.rows], truth)[:2]
        specificity, sensitivity = (presence[name]["by_slice"]["value"] for name in ("specificity", "sensitivity"))
        points = {"most probable class": (1 - specificity, sensitivity)}
        plot_roc({f"1 − P({NO_TUMOUR})": curve}, self.output_dir / "roc.png", self.title, points)
        return "roc.png"

    def _confusion_and_reliability(
        self, rows: Sequence[Mapping[str, Any]], counted: str, confusion: Sequence[Sequence[int]], ending: str = ""
    ) -> list[str]:
        files = [f"confusion{ending}.csv", f"confusion{ending}.png", f"reliability{ending}.png"]
        table, matrix, reliability = (self.output_dir / name for name in files)
        names, title = self.class_names, f"{self.title}: {counted}"
        counts = [dict(zip(names, row, strict=True)) for row in confusion]
        # The name of the first column must not be the name of a class.
        write_rows([{"true \\ predicted": name, **row} for name, row in zip(names, counts, strict=True)], table)
        plot_confusion(confusion, names, matrix, title)
        top, correct = [max(row[f"p_{name}"] for name in names) for row in rows], [row["correct"] for row in rows]
        plot_reliability(top, correct, reliability, title, counted=counted)
        return files

    def _calibrated(self, files: list[str]) -> dict[str, Any]:
        logits, classes = np.stack(self._logits), np.array([row["class"] for row in self.rows])
        try:
            temperature = fit_temperature(logits, classes)
        except ValueError as error:
            logger.warning("no temperature could be fitted: %s", error)
            return {"undefined": str(error)}
        content = {"temperature": temperature, "slices": len(classes), "checkpoint": self.description["checkpoint"]}
        write_json(content, self.output_dir / TEMPERATURE_FILE)
        files.append(TEMPERATURE_FILE)
        logger.info("temperature of these slices: %.3f", temperature)
        return {"temperature": temperature, "cross_fitted": self._cross_fitted(logits, classes)}

    def _cross_fitted(self, logits: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
        try:
            groups = [str(row["group"]) for row in self.rows]
            temperatures = cross_fitted_temperatures(logits, classes, groups, self.seed)
        except ValueError as error:
            logger.warning("the effect of the temperature on other patients can't be estimated: %s", error)
            return {"undefined": str(error)}
        rows = [
            {**row, **self._prediction(slice_logits, temperature, row["class"])}
            for row, slice_logits, temperature in zip(self.rows, logits, temperatures, strict=True)
        ]
        summary = summarise_classes(rows, self.class_names, self.bootstrap, self.seed)
        ece = summary["over_slices"]["metrics"]["ece"]["value"]
        logger.info("calibration error with temperatures of other patients: %.3f", ece)
        return summary
