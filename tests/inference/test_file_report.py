"""What is true of the table of any run over files: where it goes, what was there before, and what names do to it."""

from __future__ import annotations

import errno
import json
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
from monai_kd.inference.earlier import claim_outputs
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
        if "Findings" in kinds:  # what SaveImaged writes
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


def names_in(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file.as_posix() for file in files if not file.name.startswith(".")}


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
    (out / "sub" / ".b_mask.99999999.partial.png").write_text("half")
    (out / "notes.txt").write_text("of a doctor")
    caplog.clear()
    run([findings(inputs)], inputs, failing=["a.png", "sub/b.png", "own.png"])
    rows = {row["file"]: row["status"] for row in read_table(out / "findings.csv")}
    assert rows == {"a.png": "failed", "sub/b.png": "failed", "own.png": "failed", "x=1.png": "ok"}
    tables = {"findings.csv", "lesions.csv", "classes.csv", "classes.json"}
    assert names_in(out) == tables | {"notes.txt", "x=1_mask.png"}
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
    assert names_in(out) == {"classes.csv", "classes.json"}
    (row,) = read_table(out / "classes.csv")
    assert (row["file"], row["status"], row["class"]) == ("a.png", "unfinished", "")


OWN = {
    "mask": ("b_mask.png", "drawn by hand"),
    "mask in a subfolder": ("sub/c_mask.png", "drawn by hand"),
    "overlay": ("b_overlay.png", "drawn by hand"),
    "another table": ("findings.csv", "file,doctor\na.png,x\n"),
    "an empty table": ("findings.csv", ""),
    "no table": ("findings.csv", b"mask\n\xff\n"),
    "lesions": ("lesions.csv", "file,lesion\na.png,1\n"),
}


@pytest.mark.parametrize(("name", "content"), OWN.values(), ids=OWN)
def test_files_of_somebody_else_are_not_overwritten(name, content, tmp_path):
    inputs, out = inputs_of(tmp_path, "a.png", "b.png", "sub/c.png"), tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    content = content.encode() if isinstance(content, str) else content
    (out / name).write_bytes(content)
    with pytest.raises(FileExistsError, match=f"{name} would be overwritten, and findings.csv in this folder"):
        run([findings(inputs)], inputs)
    assert names_in(out) == {name}
    assert (out / name).read_bytes() == content


def test_a_mask_of_ones_own_that_came_later_is_not_overwritten(tmp_path):
    inputs, out = inputs_of(tmp_path, "a.png", "b.png"), tmp_path / "out"
    run([findings(inputs)], inputs, failing=["b.png"])
    (out / "b_mask.png").write_text("drawn by hand")
    with pytest.raises(FileExistsError, match=r"b_mask\.png would be overwritten"):
        run([findings(inputs)], inputs)
    assert (out / "b_mask.png").read_text() == "drawn by hand"
    assert (out / "a_mask.png").exists()


def test_masks_of_another_command_are_not_overwritten(tmp_path):
    inputs, out = inputs_of(tmp_path, "a.png"), tmp_path / "out"
    run([findings(inputs)], inputs)
    with pytest.raises(FileExistsError, match=r"a_mask\.png would be overwritten, and report\.csv in this folder"):
        claim_outputs(inputs, out / "report.csv", lambda image: [mask_path(inputs, image.label)])
    assert names_in(out) == {"a_mask.png", "findings.csv", "lesions.csv"}


def test_results_for_other_inputs_stay_and_are_known(tmp_path):
    for name in ("a.png", "b.png", "a.png"):
        inputs = inputs_of(tmp_path / Path(name).stem, name)
        inputs.output_dir = tmp_path / "out"
        run([findings(inputs)], inputs)
    assert names_in(tmp_path / "out") >= {"a_mask.png", "b_mask.png"}
    assert json.loads((tmp_path / "out" / ".monai_kd_results.json").read_text()) == ["b_mask.png"]


def test_a_run_after_one_that_was_killed(tmp_path):
    inputs, out = inputs_of(tmp_path, "a.png", "b.png"), tmp_path / "out"
    out.mkdir()
    claim_outputs(inputs, out / "findings.csv", findings(inputs).outputs)
    assert [row["status"] for row in read_table(out / "findings.csv")] == ["unfinished"] * 2
    (out / "a_mask.png").write_text("by the killed run")
    assert run([findings(inputs)], inputs, failing=["b.png"]) == ["a.png"]
    assert (out / "a_mask.png").read_text() == "new"
    assert [row["status"] for row in read_table(out / "findings.csv")] == ["ok", "failed"]


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
