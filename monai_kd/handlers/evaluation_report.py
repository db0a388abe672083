"""Metrics of every slice, gathered while an evaluator runs, and written when it ends."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.transforms import AsDiscreted, Compose, LoadImaged
from monai.utils.enums import CommonKeys as Keys

from ..atomic import written_whole
from ..data import class_name, class_names, in_plane_spacing, read_datalist
from ..metrics import mask_metrics, patient_rows, summarise, summary_table, write_rows
from ..plots import OverlayPanel, plot_overlays, plot_scores
from ..transforms import SqueezeSliced

__all__ = ["EvaluationReport"]

logger = logging.getLogger(__name__)


class EvaluationReport:
    """Compute `monai_kd.metrics.mask_metrics` for every slice, and write tables, means and pictures at the end.

    Attach it to an evaluator whose post-processing leaves masks in the geometry of the files: ``pred``, with the
    metadata of the image, and ``label``, both (1, H, W). The loader must keep the order of ``data``.

    Written, each whole or not at all: ``slices.csv``, ``patients.csv``, ``dice.png``, ``overlays.png`` (the worst, the
    median and the best slices by Dice), and last ``metrics.json``, in strict JSON.

    Args:
        output_dir: where to write.
        dataset_dir: folder of the data set, for names of the classes, and the size of a pixel of pictures.
        data: entries of the data list, as the loader gives them.
        describe: called when the run starts; tells what is evaluated as `monai_kd.bundle.describe_evaluation` does,
            which goes to ``metrics.json`` and into titles.
        bootstrap: number of resamples for the intervals, see `monai_kd.metrics.bootstrap_interval`.
        seed: of the bootstrap.
        panels: slices to show of the worst, the median and the best each.

    Raises:
        ValueError: while running: a prediction and its label differ in size; the loader gave
            another number of slices than ``data`` has.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset_dir: str | Path,
        data: Sequence[Mapping[str, Any]],
        describe: Callable[[], Mapping[str, Any]],
        bootstrap: int = 2000,
        seed: int = 0,
        panels: int = 4,
    ) -> None:
        self.output_dir, self.dataset_dir = Path(output_dir), Path(dataset_dir)
        self.data, self.describe = list(data), describe
        self.description: dict[str, Any] = {}
        self.bootstrap, self.seed, self.panels = int(bootstrap), int(seed), int(panels)
        self.class_names = class_names(dataset_dir)
        self.listed_spacing = read_datalist(dataset_dir).get("spacing")
        self.rows: list[dict[str, Any]] = []
        # One bit a pixel: which slices are to be shown is known at the end.
        self._packed: list[np.ndarray] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._begin)
        # After post-processing, which is attached first; before MONAI's metrics, which name no file when they fail.
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _begin(self, _engine: Engine) -> None:
        self.rows, self._packed, self.description = [], [], dict(self.describe())

    def _collect(self, engine: Engine) -> None:
        for output in engine.state.output:
            entry = self.data[len(self.rows)]
            prediction, truth = output[Keys.PRED], output[Keys.LABEL]
            if prediction.shape != truth.shape:
                raise ValueError(
                    f"{entry['image']} and {entry['label']} differ in size: {tuple(prediction.shape[1:])} and "
                    f"{tuple(truth.shape[1:])}."
                )
            spacing = in_plane_spacing(prediction, entry["image"], self.listed_spacing)
            self.rows.append({**self._who(entry), **mask_metrics(prediction[0], truth[0], spacing)})
            self._packed.append(np.packbits(np.asarray(prediction[0]) != 0))

    def _who(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        number = int(entry["class"])
        return {
            "source": entry["source"],
            "image": Path(os.path.relpath(entry["image"], self.dataset_dir)).as_posix(),
            "class": number,
            "class_name": class_name(self.class_names, number),
            "patient": entry["patient"],
            "group": entry["group"],
            "fold": entry["fold"],
        }

    def _write(self, _engine: Engine) -> None:
        if len(self.rows) != len(self.data):
            raise ValueError(f"{len(self.rows)} slices were evaluated, and {len(self.data)} were to be.")
        summary = summarise(self.rows, self.bootstrap, self.seed)
        write_rows(self.rows, self.output_dir / "slices.csv")
        write_rows(patient_rows(self.rows), self.output_dir / "patients.csv")
        self._draw()
        # Last, and so a sign that all the others belong to it.
        with written_whole(self.output_dir / "metrics.json") as temporary:
            content = {**self.description, "bootstrap": {"resamples": self.bootstrap, "seed": self.seed}, **summary}
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        logger.info("%s\n%s", self._title(), summary_table(summary))
        logger.info("written to %s: metrics.json, slices.csv, patients.csv, dice.png, overlays.png", self.output_dir)

    def _title(self) -> str:
        dataset = self.description["dataset"]
        part = "all slices" if dataset["fold"] is None else f"fold {dataset['fold']}"
        title = f"{dataset['name'] or Path(dataset['folder']).name}, {part}"
        return f"SYNTHETIC phantoms: {title}" if self.description["synthetic"] else title

    def _draw(self) -> None:
        ranked = sorted((row["dice"], number) for number, row in enumerate(self.rows) if row["dice"] is not None)
        if not ranked:
            logger.warning("no slice has a tumour, true or predicted: there is no Dice to draw.")
            return
        groups: dict[str, list[float]] = {
            "all": [dice for dice, _ in ranked],
            **{name: [] for name in self.class_names},
        }
        for dice, number in ranked:
            groups.setdefault(self.rows[number]["class_name"], []).append(dice)
        plot_scores(groups, self.output_dir / "dice.png", "Dice of a slice", self._title())
        shown = [(f"{place}/{len(ranked)}", ranked[place - 1][1]) for place in _places(len(ranked), self.panels)]
        read = Compose(
            [
                LoadImaged([Keys.IMAGE, Keys.LABEL], ensure_channel_first=True),
                SqueezeSliced([Keys.IMAGE, Keys.LABEL]),
                AsDiscreted(Keys.LABEL, threshold=0.5),
            ]
        )
        plot_overlays(
            [self._panel(rank, number, read) for rank, number in shown],
            self.output_dir / "overlays.png",
            f"{self._title()}: {_shown(len(ranked), self.panels)} slices by Dice (mean {np.mean(groups['all']):.3f})",
        )

    def _panel(self, rank: str, number: int, read: Compose) -> OverlayPanel:
        row = self.rows[number]
        content = read({key: self.data[number][key] for key in (Keys.IMAGE, Keys.LABEL)})
        image, truth = (np.asarray(content[key][0]) for key in (Keys.IMAGE, Keys.LABEL))
        prediction = np.unpackbits(self._packed[number], count=truth.size).reshape(truth.shape)
        distance = "" if row["hd95_mm"] is None else f", HD95 {row['hd95_mm']:.1f} mm"
        title = f"{rank}  {row['source']}  {row['class_name']}\nDice {row['dice']:.2f}{distance}"
        return OverlayPanel(image, truth, prediction, title)


def _places(count: int, each: int) -> list[int]:
    """Places, from 1, of the first, the middle and the last of ``count``; all of them when they are few."""
    if count <= 3 * each:
        return list(range(1, count + 1))
    # Of more than 3 · each, the middle ones meet neither the first nor the last.
    return [first + place for first in (1, (count - each) // 2 + 1, count - each + 1) for place in range(each)]


def _shown(count: int, each: int) -> str:
    return (
        f"the {each} worst, {each} median and {each} best of {count}"
        if count > 3 * each
        else f"from worst to best, all {count}"
    )
