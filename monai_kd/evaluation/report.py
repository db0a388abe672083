"""The common part of all evaluations: rows of slices, and files at the end."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from data_prep.disk import check_writable
from data_prep.text import printable

from ..data import NO_TUMOUR, class_name, class_names, is_negative, marked_synthetic
from ..io.atomic import clear_partial, remove_earlier, write_json

__all__ = ["EvaluationReport"]

logger = logging.getLogger(__name__)

# Files of any kind of evaluation, since the folder may hold one of the other kind. metrics.json, which marks a complete
# evaluation, is removed first.
WRITTEN = (
    *("metrics.json", "slices.csv", "volumes.csv", "patients.csv", "dice.png", "overlays.png", "temperature.json"),
    # Of volumes, by earlier versions.
    *("dice_raw.csv", "dice_summary.csv"),
    *("roc.png", "froc.png", "operating_point.json"),
    *("confusion.csv", "confusion.png", "reliability.png"),
    *("confusion_patients.csv", "confusion_patients.png", "reliability_patients.png"),
)


SHOWN = 5  # constant images that the warning names


class EvaluationReport(ABC):
    """Collect one row for every slice while an evaluator runs, and write tables, pictures and metrics when it ends.

    The loader must keep the order of ``data``. Every file is written atomically, and ``metrics.json``, in strict JSON,
    last. Files of an earlier evaluation in the folder are removed when a run starts. Slices whose image has a single
    value are measured like all others, and named in one warning at the end.

    Args:
        output_dir: folder for the files.
        dataset_dir: folder of the data set.
        data: entries of the data list, in the order of the loader.
        describe: called when the run starts; returns a description as `monai_kd.bundle.describe_evaluation` does, for
            ``metrics.json`` and for titles.
        bootstrap: number of resamples for the intervals.
        seed: seed of the bootstrap.

    Raises:
        ValueError: when the run starts: ``output_dir`` is the folder of the checkpoint; while running: the loader
            returns more or fewer slices than ``data`` has.
        OSError: when the run starts: the folder is not writable.
    """

    # What a row is of, and what helps where images have a single value.
    of, remedy = "slices", "Take"

    def __init__(
        self,
        output_dir: str | Path,
        dataset_dir: str | Path,
        data: Sequence[Mapping[str, Any]],
        describe: Callable[[], Mapping[str, Any]],
        bootstrap: int = 2000,
        seed: int = 0,
    ) -> None:
        self.output_dir, self.dataset_dir = Path(output_dir).expanduser(), Path(dataset_dir).expanduser()
        self.data, self.describe = list(data), describe
        self.description: dict[str, Any] = {}
        self.bootstrap, self.seed = int(bootstrap), int(seed)
        self.class_names = class_names(dataset_dir)
        self.rows: list[dict[str, Any]] = []
        self._sliced = any("slice" in entry for entry in self.data)
        self._constant: list[str] = []

    @abstractmethod
    def measure(self, output: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of the metrics of one slice."""

    @abstractmethod
    def write(self) -> tuple[dict[str, Any], str, Sequence[str]]:
        """Write all files but ``metrics.json``; return its content, a table for the console, and the file names."""

    def begin(self) -> None:
        """Clear the results of an earlier run, also on disk, where they would be left if this run failed."""
        self.rows, self._constant, self.description = [], [], dict(self.describe())
        weights = Path(self.description["checkpoint"]["path"])
        if weights.parent == self.output_dir.resolve():
            raise ValueError(
                f"output_dir {self.output_dir} is the folder of the checkpoint {weights.name}, whose temperature.json "
                f"and pictures an evaluation would replace: give a folder of its own, such as "
                f"{self.output_dir / 'evaluation'}."
            )
        check_writable(self.output_dir)
        clear_partial(self.output_dir)
        remove_earlier([self.output_dir / name for name in WRITTEN], "evaluation")

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _engine: self.begin())
        # After post-processing, which is attached first; before MONAI's metrics, which name no file when they fail.
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Any) -> None:
        for output in engine.state.output:
            if len(self.rows) == len(self.data):
                raise ValueError(f"the loader returns more {self.of} than the {len(self.data)} of the data list.")
            entry = self.data[len(self.rows)]
            self.rows.append({**self._columns(entry), **self.measure(output, entry)})
            # Scaling, resizing and normalising leave a constant image constant; windows make others so.
            if Keys.IMAGE in output and bool(((flat := output[Keys.IMAGE].flatten(1)) == flat[:, :1]).all()):
                self._constant.append(self.rows[-1]["image"])

    def _columns(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        number, image = int(entry["class"]), entry["image"]
        # Of a volume with a file for each channel, the first.
        file = image[0] if isinstance(image, list) else image
        return {
            "source": entry["source"],
            "image": Path(os.path.relpath(file, self.dataset_dir)).as_posix(),
            # Of a slice that is listed as one of a volume.
            **({"slice": entry.get("slice")} if self._sliced else {}),
            "class": number,
            "class_name": NO_TUMOUR if is_negative(entry) else class_name(self.class_names, number),
            "patient": entry["patient"],
            "group": entry["group"],
            "fold": entry["fold"],
        }

    def check_classes(self, trained: Sequence[str], *more: str) -> None:
        """Refuse a network of other classes than those of the data set, or these and ``more``, in this order.

        Raises:
            ValueError: it is one.
        """
        if list(trained) not in ([*self.class_names], [*self.class_names, *more]):
            raise ValueError(
                f"the network was trained for the classes {', '.join(trained)}; {self.dataset_dir} has the "
                f"classes {', '.join(self.class_names)}, in this order. Evaluate it on data with the same classes."
            )

    @property
    def title(self) -> str:
        """Title of the pictures: data set and fold."""
        dataset = self.description["dataset"]
        part = f"all {self.of}" if dataset["fold"] is None else f"fold {dataset['fold']} (counted from 0)"
        title = printable(f"{dataset['name'] or Path(dataset['folder']).name}, {part}")
        return marked_synthetic(title, self.description["synthetic"])

    def _write(self, _engine: Engine) -> None:
        if len(self.rows) != len(self.data):
            raise ValueError(
                f"the loader returned {len(self.rows)} of the {len(self.data)} {self.of} of the data list."
            )
        if self._constant:
            more = ", …" if len(self._constant) > SHOWN else ""
            logger.warning(
                "the image of %d of %d %s has a single value, so that their metrics say nothing about the network: "
                "%s%s. %s them out of the data list, or convert them again.",
                *(len(self._constant), len(self.rows), self.of, printable(", ".join(self._constant[:SHOWN]))),
                *(more, self.remedy),
            )
        found, table, files = self.write()
        # Last, so that it marks a complete evaluation.
        content = {**self.description, "bootstrap": {"resamples": self.bootstrap, "seed": self.seed}, **found}
        write_json(content, self.output_dir / "metrics.json")
        logger.info("%s\n%s", self.title, table)
        logger.info("written to %s: %s", self.output_dir, ", ".join(["metrics.json", *files]))
