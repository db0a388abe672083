"""What the commands of ``python -m monai_kd`` make of their arguments."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from monai_kd.__main__ import command_parser, main

CHECKPOINTS = ["--segmentation=~/s.pt", "--classification=~/c.pt", "--bundles=~/b"]
COMMANDS = {
    "demo": (["~/out", "--bundles=~/b"], {"output_dir": "out", "bundles": "b"}),
    "report": (
        ["~/in", "--output_dir=~/out", *CHECKPOINTS],
        {"input": "in", "output_dir": "out", "segmentation": "s.pt", "classification": "c.pt", "bundles": "b"},
    ),
    "serve": (CHECKPOINTS, {"segmentation": "s.pt", "classification": "c.pt", "bundles": "b"}),
    "compare": (["~/a", "~/b"], {"first": "a", "second": "b"}),
    "precision": (["~/a", "~/b", "--checkpoint=~/m.pt"], {"float32": "a", "half": "b", "checkpoint": "m.pt"}),
    "export": (["~/b", "~/m.pt", "~/out"], {"bundle": "b", "checkpoint": "m.pt", "output_dir": "out"}),
    "label_app": (
        ["~/app", *CHECKPOINTS, "--teacher=~/t.pt"],
        {"folder": "app", "segmentation": "s.pt", "classification": "c.pt", "teacher": "t.pt", "bundles": "b"},
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_home_folder_is_expanded_in_every_path(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments, paths = COMMANDS[command]
    given = vars(command_parser().parse_args([command, *arguments]))
    assert {name: given[name] for name in paths} == {name: tmp_path / path for name, path in paths.items()}


@pytest.mark.parametrize("name", ["amp", "judge_unfit"])
def test_switches_are_true_or_false(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for text, value in (("True", True), ("False", False)):
        assert vars(command_parser().parse_args(["report", "in", "--output_dir=out", f"--{name}", text]))[name] is value
    assert vars(command_parser().parse_args(["serve"]))[name] is None
    with pytest.raises(SystemExit):
        command_parser().parse_args(["serve", f"--{name}", "yes"])
    assert "must be True or False, got 'yes'" in capsys.readouterr().err


def test_home_folder_is_expanded_in_configs_of_taps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    convolution = {"_target_": "torch.nn.Conv2d", "in_channels": "@channels", "out_channels": 1, "kernel_size": 1}
    (tmp_path / "a.json").write_text(json.dumps({"network_def": convolution, "channels": 1}))
    (tmp_path / "b.json").write_text(json.dumps({"channels": 2}))
    assert main(["taps", "~/a.json,~/b.json", "--input_shape=2,8,8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "Conv2d"


def test_a_letter_that_the_output_does_not_have_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(**_: object) -> int:
        print("…")
        return 0

    output = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr("monai_kd.taps.run_taps", says)
    assert main(["taps", "a.json", "--input_shape=2,8,8"]) == 0
    assert output.buffer.getvalue().strip() == rb"\u2026"  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", ["monai_kd.report.run_report", "monai_kd.config.keep_freed_memory"])
def test_an_interrupt_is_one_sentence(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    assert main(["report", str(tmp_path), "--output_dir", str(tmp_path / "out")]) == 130
    said = capsys.readouterr()
    assert (said.out, said.err.strip()) == (
        "",
        "stopped; files that were finished before are kept, and none is half-written",
    )
