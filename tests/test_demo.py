"""The commands of the demo, and what it does between them."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import fire
import pytest
from documented import words_of
from monai.bundle import create_workflow

from data_prep.phantom import write_phantoms
from monai_kd import demo
from monai_kd.__main__ import main


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No training, and phantoms of two small slices."""
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: None)
    monkeypatch.setattr(demo, "NEW_SLICES", 2)
    monkeypatch.setattr(
        demo,
        "write_phantoms",
        lambda dst, slices, seed: write_phantoms(dst, slices, seed, size=64, workers=1, progress=False),
    )


def test_new_slices_that_an_interrupted_demo_left_are_completed(tmp_path: Path) -> None:
    assert demo.run_demo(tmp_path) == 0
    (tmp_path / "new_slices/2.mat").unlink()
    assert demo.run_demo(tmp_path) == 0
    assert (tmp_path / "new_slices/2.mat").exists()


def _named(command: list[str]) -> str:
    return command[command.index("run" if "run" in command else "monai_kd") + 1]


def test_line_of_the_readme(lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the demo does but its trainings, with its output where the line has it."""
    ran: list[str] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran.append(_named(command)))
    (line,) = lines
    words = words_of(line)
    assert words[:3] == ["python", "-m", "monai_kd"]
    monkeypatch.chdir(tmp_path)
    assert main(words[3:]) == 0
    assert ran == ["training", "evaluating", "inferring", "report"]
    assert list(tmp_path.glob("*/new_slices/*.mat"))


def test_a_folder_with_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new_slices").mkdir()
    (tmp_path / "new_slices/mine.mat").write_text("mine")
    assert demo.run_demo(tmp_path) == 1
    assert "error: " in (said := capsys.readouterr().err)
    assert "new_slices is not empty and holds no phantoms: choose another folder" in said


PATHS = {
    "train": ["output_dir"],
    "evaluate": ["checkpoint", "output_dir"],
    "inference": ["checkpoint", "input", "output_dir"],
}


@pytest.mark.parametrize("folder", ["demo", "try #2, $x @y %z", "2024_11"])
def test_every_bundle_gets_the_paths(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = tmp_path / "bundles" / "seg_student" / "configs"
    configs.mkdir(parents=True)
    for name, paths in PATHS.items():
        content = {"imports": ["$import monai_kd.bundle as kd"], "initialize": ["$kd.accept_overrides()"]}
        (configs / f"{name}.json").write_text(json.dumps({**content, **dict.fromkeys(paths)}))
    arrived: dict[str, dict[str, Any]] = {}
    ran: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        """The command in this process: by Fire, as ``python -m monai.bundle`` does it."""
        ran.append(command[command.index("-m") :])
        words = command[command.index("monai.bundle") + 1 :]
        monkeypatch.setattr(sys, "argv", ["-m", *words])

        def initialized(run_id: str, config_file: str, **overrides: Any) -> None:
            parser = create_workflow(config_file=config_file, workflow_type="infer", **overrides).parser
            name = Path(config_file).stem
            arrived[name] = {path: parser.get_parsed_content(path) for path in PATHS[name]}

        fire.Fire({"run": initialized}, command=[*words, "--logging_file", "False"])

    monkeypatch.setattr(subprocess, "run", run)
    assert demo.run_demo(tmp_path / folder, tmp_path / "bundles") == 0
    out = tmp_path / folder
    model = out / "model" / "model.pt"
    expected = {
        "train": {"output_dir": out / "model"},
        "evaluate": {"checkpoint": model, "output_dir": out / "evaluation"},
        "inference": {"checkpoint": model, "input": out / "new_slices", "output_dir": out / "masks"},
    }
    assert arrived == {name: {path: str(where) for path, where in each.items()} for name, each in expected.items()}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ python ")]
    assert [shlex.split(line)[2:] for line in lines] == ran
