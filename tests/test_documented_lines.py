"""Command lines of the pages are run as they are printed; words in capitals and ``runs/`` are files of the test."""

from __future__ import annotations

import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from documented import ROOT, documented

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import untrained

RUNS = {
    "runs/student": "seg_student",
    "runs/seg_student": "seg_student",
    "runs/cls_student": "cls_student",
    "runs/teacher": "seg_teacher",
}
EVALUATED, CLASSES = "runs/student/evaluation", "runs/cls_student/evaluation"
# Page, beginning of the line, and what it must have written.
LINES = [
    ("docs/data.md", "python -m data_prep phantom DST", []),
    ("docs/evaluation.md", "python -m monai.bundle run evaluating --config_file bundles/seg_student", [EVALUATED]),
    ("docs/evaluation.md", "python -m monai.bundle run evaluating --config_file bundles/cls_student", [CLASSES]),
    ("docs/inference.md", "python -m monai.bundle run inferring --config_file bundles/seg", ["OUT/findings.csv"]),
    ("docs/inference.md", "python -m monai.bundle run inferring --config_file bundles/cls", ["OUT/classes.csv"]),
    ("docs/report.md", "python -m monai_kd report", ["OUT/report.html"]),
    ("README.md", "python -m monai_kd report", ["report/report.html"]),
    ("README.md", "python -m monai_kd label_app", ["app/main.py"]),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, disc_dataset: Path) -> Path:
    """A checkout with data and runs, in which the lines are run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("bundles", "docs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(disc_dataset, folder / "DATA")
    for name in ("FILE_OR_FOLDER", "NEW_SLICES"):
        (folder / name).mkdir()
        shutil.copy(disc_dataset / "images" / "0000.nii.gz", folder / name)
    for run, bundle in RUNS.items():
        untrained(bundle, folder / run)
    return folder


def run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, as ``python -m package …`` or ``python file …`` does."""
    line = line.replace("[--slices 240] [--seed 0] [--size 256] [--workers N]", "--slices 6 --workers 1")
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "python"
    is_module = words[0] == "-m"
    name, *arguments = words[1:] if is_module else words
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    code: object = None
    try:
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        code = end.code
    assert code in (0, None), line


@pytest.mark.parametrize(("page", "beginning", "written"), LINES, ids=[f"{page}: {line}" for page, line, _ in LINES])
def test_line(page, beginning, written, made, monkeypatch):
    shutil.rmtree(made / "OUT", ignore_errors=True)
    for line in documented(page, beginning):
        run(line, made, monkeypatch)
    assert all((made / name).exists() for name in written or ["DST"])
