"""The tables of a classification, whatever becomes of the run."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from monai_kd.inference import Classifications, InputFiles, SourceImage
from monai_kd.inference.overlay import draw_overlay
from monai_kd.plots import OverlayPanel, plot_confusion, plot_curves, plot_overlays, plot_scores

NAMES = ["round", "costs $^$"]
NOISE = SourceImage(np.eye(64), np.eye(4), np.ones(3), (Path("noise.png"),), "picture")


def run(folder: Path, answers: list[torch.Tensor | str | Exception]) -> Path:
    """A file for each answer: probabilities, the reason of a bad file, or an error that ends the run."""
    (folder / "in").mkdir()
    for number in range(len(answers)):
        # a name whose last byte is no UTF-8
        (folder / "in" / os.fsdecode(b"%d\xe9.png" % number)).write_bytes(b"")
    inputs = InputFiles(folder / "in", folder / "out")

    def step(engine: Engine, answer: torch.Tensor | str | Exception) -> list[dict]:
        item = inputs[engine.state.iteration - 1]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            engine.state.batch = {"file": [item["file"]], "reason": [answer]}
            return []
        engine.state.batch = [{**item, "source": NOISE}]
        return [{"pred": answer, "image": torch.arange(4.0).reshape(1, 2, 2)}]

    engine = Engine(step)
    Classifications(inputs, NAMES).attach(engine)
    engine.run(answers)
    return folder / "out"


def tables(out: Path) -> tuple[list[dict[str, str]], list[dict]]:
    with open(out / "classes.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((out / "classes.json").read_text())["files"]


def test_names_that_are_no_text(tmp_path, capfd):
    rows, files = tables(run(tmp_path, [torch.tensor([0.25, 0.75]), "the file is empty"]))
    assert [row["file"] for row in rows] == ["0?.png", "1?.png"]
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert files[0]["slices"][0]["class"] == NAMES[1]
    assert "Logging error" not in capfd.readouterr().err


def test_rows_are_in_the_order_of_the_numbers(tmp_path):
    rows, files = tables(run(tmp_path, [torch.tensor([0.25, 0.75])] * 12))
    for found in (rows, files):
        assert [int(each["file"][:-5]) for each in found] == list(range(12))


@pytest.mark.parametrize(
    ("answers", "error", "message", "statuses"),
    [
        (["the file is empty"], ValueError, "the file could not be classified", ["failed"]),
        ([torch.tensor([0.5, 0.5]), OSError("no space")], OSError, "no space", ["ok", "unfinished"]),
    ],
)
def test_both_tables_stay_when_a_run_fails(tmp_path, answers, error, message, statuses):
    with pytest.raises(error, match=message):
        run(tmp_path, answers)
    rows, files = tables(tmp_path / "out")
    assert [row["status"] for row in rows] == [file["status"] for file in files] == statuses


def test_words_of_nothing_to_do_fit_every_task(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError) as caught:
        InputFiles(tmp_path, tmp_path / "out").images  # noqa: B018
    assert "segment" not in str(caught.value)


def test_pictures_take_names_as_they_are(tmp_path):
    image, mask = np.random.default_rng(0).random((8, 8)), np.eye(8)
    name = "costs $^$"  # to matplotlib an equation that ends too early
    meta = {"affine": np.eye(4), "spacing": [1.0, 1.0, 1.0]}
    draw_overlay(image, meta, mask, mask, tmp_path / "overlay.png", name)
    plot_overlays([OverlayPanel(image, mask, mask, name)], tmp_path / "overlays.png", name)
    plot_confusion(np.eye(2), NAMES, tmp_path / "confusion.png", name)
    plot_scores({name: [0.5, 0.75]}, tmp_path / "scores.png", title=name)
    plot_curves([{"epoch": 1, "loss": 0.5}], tmp_path / "curves.png", name)
    assert len(list(tmp_path.glob("*.png"))) == 5
