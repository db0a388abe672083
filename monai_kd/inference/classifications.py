"""Which class each slice is, as tables and as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys as Keys
from monai.visualize import GradCAM
from torch import nn

from ..io.atomic import write_json
from .dataset import SOURCE
from .examination import NOT_JUDGED, examined
from .file_report import FileReport, printable
from .gradcam import draw_gradcam, gradcam_of
from .inputs import InputFiles, InputImage

__all__ = ["Classifications", "rank_classes"]

GRADCAM = "_gradcam.png"
CONSTANT = "the slice is constant: its class says nothing"


def rank_classes(probabilities: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Numbers for one slice.

    Args:
        probabilities: (C,), of the classes in the order of their names.
        class_names: C names.

    Returns:
        ``class`` (the most probable), ``probability`` (its own), and ``p_<name>`` for each class.

    Raises:
        ValueError: there are more or fewer probabilities than names.

    Example:
        >>> rank_classes(np.array([0.25, 0.75]), ["meningioma", "glioma"])
        {'class': 'glioma', 'probability': 0.75, 'p_meningioma': 0.25, 'p_glioma': 0.75}
    """
    if probabilities.shape != (len(class_names),):
        raise ValueError(f"{probabilities.shape} probabilities for the classes {', '.join(class_names)}.")
    best = int(probabilities.argmax())
    each = {f"p_{name}": round(float(p), 4) for name, p in zip(class_names, probabilities, strict=True)}
    return {"class": class_names[best], "probability": round(float(probabilities[best]), 4), **each}


class Classifications(FileReport):
    """`FileReport` of a classification: ``classes.csv`` and ``classes.json``, a row for each slice.

    The evaluator's post-processing leaves probabilities under ``pred``, (C,) or for a volume (C, slices). A volume gets
    no class as a whole: most of its slices may show no tumour, and the network knows no class for that. An image that
    the network is not made for, see `JudgeClassInputd`, has the class "not judged" and no ``probability``.

    Args:
        inputs: the images that are being classified.
        class_names: C names.
        network: draws Grad-CAM into ``<name>_gradcam.png``.
        gradcam_layer: module of the network whose activations are weighed, see `gradcam_of`; ``None`` for no pictures.

    Raises:
        ValueError: there is a layer and no network, or as for `gradcam_of`.
    """

    table, more_tables, done = "classes.csv", ("classes.json",), "classified"

    def __init__(
        self,
        inputs: InputFiles,
        class_names: Sequence[str],
        network: nn.Module | None = None,
        gradcam_layer: str | None = None,
    ) -> None:
        super().__init__(inputs)
        self.class_names = list(class_names)
        self.gradcam: GradCAM | None = None
        if gradcam_layer is not None:
            if network is None:
                raise ValueError(f"gradcam_layer: '{gradcam_layer}' is a module of a network, and there is none.")
            self.gradcam = gradcam_of(network, gradcam_layer)

    @property
    def columns(self) -> Sequence[str]:
        names = [f"p_{name}" for name in self.class_names]
        judged = ["feature_distance", "warning"]
        return ["file", "status", "reason", "slice", "class", "probability", *names, *judged, "gradcam"]

    def rows_of(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> list[dict[str, Any]]:
        probabilities = np.asarray(torch.as_tensor(output[Keys.PRED]).cpu(), dtype=float)
        probabilities = probabilities.reshape(len(probabilities), -1)
        image = torch.as_tensor(output[Keys.IMAGE])
        # As a file of its own such a slice is refused; in a volume it is one of many.
        constant = (image.amin(dim=(1, 2)) == image.amax(dim=(1, 2))).all(dim=0).reshape(-1).tolist()
        file, source = item["file"], item[SOURCE]
        found, judged = examined(output, source.warnings)
        rows = [
            {
                **{"file": file, "status": "ok", "reason": CONSTANT if blank else source.assumed, "slice": number},
                **rank_classes(column, self.class_names),
                **found,
            }
            for number, (column, blank) in enumerate(zip(probabilities.T, constant, strict=True))
        ]
        if not judged:
            for row in rows:
                row["class"] = NOT_JUDGED
                del row["probability"]
        if self.gradcam is not None:
            picture = self.output(self.inputs.labelled(file), GRADCAM)
            draw_gradcam(self.gradcam, image, probabilities, self.class_names, picture, printable(file))
            for row in rows:
                row["gradcam"] = self.named(picture)
        return rows

    def outputs(self, image: InputImage) -> Sequence[Path]:
        return [self.output(image, GRADCAM)]

    def summary_line(self, rows: Sequence[Mapping[str, Any]]) -> str:
        if rows[0]["class"] == NOT_JUDGED:
            return f"{NOT_JUDGED}: {rows[0]['warning']}"
        if len(rows) == 1:
            return f"{rows[0]['class']}, probability {rows[0]['probability']:.2f}"
        counts = {name: sum(row["class"] == name for row in rows) for name in self.class_names}
        return f"{len(rows)} slices: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    def write(self) -> None:
        files: dict[str, dict[str, Any]] = {}
        for row in self.sorted_rows():
            reason = "" if row["reason"] == CONSTANT else row["reason"]
            file = files.setdefault(row["file"], {"file": row["file"], "status": row["status"], "reason": reason})
            if row["status"] == "ok":
                probabilities = {name: row[f"p_{name}"] for name in self.class_names}
                own: dict[str, Any] = {
                    name: row[name]
                    for name in ("slice", "reason", "class", "probability", "feature_distance", "warning", "gradcam")
                    if name in row
                }
                file.setdefault("slices", []).append({**own, "probabilities": probabilities})
        content = {"classes": self.class_names, "files": list(files.values())}
        write_json(content, self.inputs.output_dir / "classes.json")
        # The table last: by it, all is done.
        super().write()
