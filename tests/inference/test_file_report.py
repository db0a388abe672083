"""What is true of the table of any run over files: where it goes, what was there before, and what names do to it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from slices import pattern

from monai_kd.inference import Classifications, FileEvaluator, Findings, InputFiles, MaskWriter, SourceImage
from monai_kd.inference.file_report import FileReport
from monai_kd.inference.masks import mask_path
from monai_kd.io.table import read_table

NAMES = ["round", "square"]
NOISE = SourceImage(np.eye(64), np.eye(4), np.ones(3), (Path("noise.png"),), "picture")
HOSTILE = ("=cmd|' /C calc'!A0.png", "\u202egnp.png", "\x1b[2Ja\nb.png", "@x.png")


def run(reports: Sequence[FileReport], inputs: InputFiles, failing: Sequence[str] = ()) -> list[str]:
    """Answers all files but those that fail; gives the names of the files that the network saw."""
    seen: list[str] = []

    def step(engine: Engine, number: int) -> list[dict]:
        item = inputs[number]
        if item["file"] in failing:
            engine.state.batch = {"file": [item["file"]], "reason": ["the file is empty"]}
            return []
        seen.append(item["file"])
        engine.state.batch = [{**item, "source": NOISE}]
        mask = MetaTensor(torch.as_tensor(pattern())[None].float(), meta={"spacing": np.ones(3)})
        # What SaveImaged and the other bundle write.
        path = mask_path(inputs, item["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("new")
        return [
            {"pred": mask if "Findings" in kinds else torch.tensor([0.25, 0.75]), "probability": mask, "image": mask}
        ]

    kinds = [type(each).__name__ for each in reports]
    engine = Engine(step)
    for each in reports:
        each.attach(engine)
    engine.run(range(len(inputs)))
    return seen


def inputs_of(folder: Path, *names: str) -> InputFiles:
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(b"")
    return InputFiles(folder / "in", folder / "out")


def findings(inputs: InputFiles) -> Findings:
    return Findings(inputs, overlays=False)


def classifications(inputs: InputFiles) -> Classifications:
    return Classifications(inputs, NAMES)


@pytest.mark.parametrize("report", [findings, classifications])
def test_a_folder_that_can_not_be_written_is_named_before_the_network_runs(report, tmp_path):
    inputs = inputs_of(tmp_path, "a.png")
    (tmp_path / "out").write_text("a file")

    def step(engine: Engine, number: int) -> None:
        pytest.fail("the network ran")

    engine = Engine(step)
    report(inputs).attach(engine)
    with pytest.raises(OSError, match=rf"{tmp_path}/out can't be written to: .*Choose another folder"):
        engine.run([0])


def test_of_an_earlier_run_nothing_stays_that_could_be_taken_for_new(tmp_path, caplog):
    inputs, out = inputs_of(tmp_path, "a.png", "sub/b.png", "own.png", "x=1.png"), tmp_path / "out"
    run([findings(inputs)], inputs, failing=["own.png"])
    run([classifications(inputs)], inputs)
    (out / "own_mask.png").write_text("drawn by hand, and of no run")
    (out / "sub" / ".b_mask.99999999.partial.png").write_text("half")
    (out / "notes.txt").write_text("of a doctor")
    caplog.clear()
    run([findings(inputs)], inputs, failing=["a.png", "sub/b.png", "own.png"])
    rows = {row["file"]: row["status"] for row in read_table(out / "findings.csv")}
    assert rows == {"a.png": "failed", "sub/b.png": "failed", "own.png": "failed", "x=1.png": "ok"}
    kept = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    tables = {"findings.csv", "lesions.csv", "classes.csv", "classes.json"}
    assert kept == tables | {"notes.txt", "own_mask.png", "x=1_mask.png"}
    assert (out / "x=1_mask.png").read_text() == "new"
    for name in ("findings.csv", "a_mask.png", "b_mask.png"):
        assert f"{name} of an earlier run is removed." in caplog.text


def test_tables_of_an_earlier_run_do_not_stay_beside_one_that_ends_early(tmp_path):
    inputs, out = inputs_of(tmp_path, "a.png"), tmp_path / "out"
    run([classifications(inputs)], inputs)

    def step(engine: Engine, number: int) -> None:
        raise RuntimeError("broken")

    engine = Engine(step)
    classifications(inputs).attach(engine)
    with pytest.raises(RuntimeError, match="broken"):
        engine.run([0])
    assert [path.name for path in out.iterdir()] == ["a_mask.png"]


def test_a_damaged_table_is_no_reason_to_stop(tmp_path, caplog):
    inputs = inputs_of(tmp_path, "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "findings.csv").write_bytes(b"mask\n\xff\n")
    assert run([findings(inputs)], inputs) == ["a.png"]
    assert "findings.csv can't be read as a table" in caplog.text


def test_names_that_move_the_cursor_or_are_formulas(tmp_path, caplog):
    inputs = inputs_of(tmp_path, *HOSTILE)
    with caplog.at_level(logging.INFO):
        run([findings(inputs)], inputs, failing=[HOSTILE[2]])
    assert sorted(row["file"] for row in read_table(tmp_path / "out" / "findings.csv")) == sorted(HOSTILE)
    raw = (tmp_path / "out" / "findings.csv").read_text(encoding="utf-8")
    for text in (raw.replace("\n", ""), *(record.getMessage() for record in caplog.records)):
        assert text.isprintable()
    assert not [line for line in raw.splitlines() if line.startswith(("=", "+", "-", "@"))]
    assert r"\u202egnp.png: tumour" in caplog.text
    assert r"\x1b[2Ja\x0ab.png: FAILED" in caplog.text


def test_a_mask_that_was_refused_earlier_is_not_the_reason_of_another_error(monkeypatch):
    """As after `write_mask` of a report in the same process: the error is one of the program, and ends the run."""
    monkeypatch.setattr(MaskWriter, "refused", PermissionError(errno.EACCES, "Permission denied", "/elsewhere/a.png"))

    def broken(_images: torch.Tensor, _network: torch.nn.Module) -> torch.Tensor:
        raise KeyError("broken")

    loader = [{"image": torch.zeros(1, 1, 4, 4), "file": ["a.png"]}]
    evaluator = FileEvaluator("cpu", loader, torch.nn.Identity(), inferer=broken)
    with pytest.raises(KeyError, match="broken"):
        evaluator.run()
