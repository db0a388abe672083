"""Which class each slice is, as tables and as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from monai.utils.enums import CommonKeys as Keys
from monai.visualize import GradCAM
from torch import nn

from ..atomic import written_whole
from .file_report import FileReport
from .inputs import InputFiles

__all__ = ["Classifications", "draw_gradcam", "rank_classes"]

MOST_SLICES, PER_ROW = 12, 4


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
    no class as a whole: most of its slices may show no tumour, and the network knows no class for that.

    Args:
        inputs: the images that are being classified.
        class_names: C names.
        network: draws Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391) into ``<name>_gradcam.png``.
        gradcam_layer: module of the network whose activations are weighed; ``None`` for no pictures.

    Raises:
        ValueError: the network has no module of that name.
    """

    table, done = "classes.csv", "classified"

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
            if network is None or gradcam_layer not in dict(network.named_modules()):
                name = type(network).__name__
                raise ValueError(f"gradcam_layer: {name} has no module '{gradcam_layer}'.")
            self.gradcam = GradCAM(nn_module=network, target_layers=gradcam_layer)

    @property
    def columns(self) -> Sequence[str]:
        names = [f"p_{name}" for name in self.class_names]
        return ["file", "status", "reason", "slice", "class", "probability", *names, "gradcam"]

    def rows_of(self, file: str, output: Mapping[str, Any]) -> list[dict[str, Any]]:
        probabilities = np.asarray(torch.as_tensor(output[Keys.PRED]).cpu(), dtype=float)
        probabilities = probabilities.reshape(len(probabilities), -1)
        rows = [
            {"file": file, "status": "ok", "reason": "", "slice": number, **rank_classes(column, self.class_names)}
            for number, column in enumerate(probabilities.T)
        ]
        if self.gradcam is not None:
            picture = self.inputs.output_dir / f"{self.inputs.labelled(file).name}_gradcam.png"
            draw_gradcam(self.gradcam, torch.as_tensor(output[Keys.IMAGE]), rows, picture, title=file)
            for row in rows:
                row["gradcam"] = picture.relative_to(self.inputs.output_dir).as_posix()
        return rows

    def said(self, rows: Sequence[Mapping[str, Any]]) -> str:
        if len(rows) == 1:
            return f"{rows[0]['class']}, probability {rows[0]['probability']:.2f}"
        counts = {name: sum(row["class"] == name for row in rows) for name in self.class_names}
        return f"{len(rows)} slices: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    def _finish(self, engine: Engine) -> None:
        super()._finish(engine)
        files: dict[str, dict[str, Any]] = {}
        for row in sorted(self.rows, key=lambda row: (row["file"], row.get("slice", 0))):
            file = files.setdefault(row["file"], {name: row[name] for name in ("file", "status", "reason")})
            if row["status"] == "ok":
                probabilities = {name: row[f"p_{name}"] for name in self.class_names}
                own = {name: row[name] for name in ("slice", "class", "probability", "gradcam") if name in row}
                file.setdefault("slices", []).append({**own, "probabilities": probabilities})
        with written_whole(self.inputs.output_dir / "classes.json") as temporary:
            content = {"classes": self.class_names, "files": list(files.values())}
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def draw_gradcam(
    gradcam: GradCAM, image: torch.Tensor, rows: Sequence[Mapping[str, Any]], path: str | Path, title: str = ""
) -> None:
    """Draw what the network sees, and beside it where the evidence for its most probable class lies.

    Args:
        gradcam: MONAI's, of the network.
        image: (3, H, W) or (3, H, W, slices), as the network gets it.
        rows: `rank_classes` of each slice.
        path: the PNG to write; at most 12 slices, evenly chosen.
        title: above the picture.
    """
    volume = image if image.ndim == 4 else image[..., None]
    count = volume.shape[-1]
    slices = np.linspace(0, count - 1, min(MOST_SLICES, count)).round().astype(int).tolist()
    columns = min(PER_ROW, len(slices))
    grid = (-(-len(slices) // columns), 2 * columns)
    figure = Figure(figsize=(2.6 * grid[1], 2.9 * grid[0] + 0.4), layout="constrained", facecolor="black")
    cells = figure.subplots(*grid, squeeze=False).reshape(-1, 2)
    for axes in cells.flat:
        axes.axis("off")
    for (plain, mapped), number in zip(cells, slices, strict=False):
        # Pictures have x to the right.
        picture = volume[0, ..., number].cpu().numpy().T
        with torch.enable_grad():
            found = np.asarray(gradcam(x=volume[None, ..., number]))[0, 0].T
        # MONAI's map is 0 where the evidence is strongest, and also everywhere when there is none.
        heat = 1 - found if np.ptp(found) > 0 else np.zeros_like(found)
        for axes in (plain, mapped):
            axes.imshow(picture, cmap="gray")
        mapped.imshow(heat, cmap="inferno", alpha=0.5, vmin=0, vmax=1)
        row = rows[number]
        said = f"{row['class']} {row['probability']:.2f}"
        mapped.set_title(said if count == 1 else f"slice {number}: {said}", fontsize=8, color="white")
    figure.suptitle(title, fontsize=9, color="white")
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)
