"""The lines of the bundles' own pages, run in the folder of the bundle, as of one that was unpacked from an archive."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from documented import run
from tiny import BUNDLES, OVERRIDES


def copied(name: str, folder: Path, dataset: Path) -> Path:
    """A bundle without weights, and beside it its teacher's; its own page has the folders ``DATA`` and ``SLICES``."""
    for each in (name, name.replace("student", "teacher")):
        bundle = folder / each
        if not bundle.exists():
            shutil.copytree(BUNDLES / each, bundle, ignore=shutil.ignore_patterns("models", "runs", "eval"))
    (folder / name / "DATA").symlink_to(dataset)
    (folder / name / "SLICES").symlink_to(dataset / "images")
    return folder / name


def run_page(name: str, lines: list[str], folder: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train, evaluate and predict; then the other lines."""
    bundle = copied(name, folder, dataset)
    training, evaluating, inferring, *others = lines
    run(training, bundle, monkeypatch, **{**OVERRIDES[name], "epochs": 1})
    assert (bundle / "models" / "model.pt").is_file()
    run(evaluating, bundle, monkeypatch)
    run(inferring, bundle, monkeypatch)
    for line in others:
        run(line, bundle, monkeypatch)
        words = shlex.split(line)
        assert (bundle / words[words.index("--filepath") + 1]).is_file()
    return bundle


def split(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the student's page and of the teacher's, each of which begins with its training."""
    (_, second) = (place for place, line in enumerate(lines) if " run training " in line)
    return lines[:second], lines[second:]


def test_segmentation(lines, class_dataset, tmp_path, monkeypatch):
    student, teacher = split(lines)
    bundle = run_page("seg_student", student, tmp_path / "a", class_dataset, monkeypatch)
    assert (bundle / "MASKS" / "findings.csv").is_file()
    bundle = run_page("seg_teacher", teacher, tmp_path / "b", class_dataset, monkeypatch)
    assert (bundle / "MASKS" / "findings.csv").is_file()


def test_classification(lines, class_dataset, tmp_path, monkeypatch):
    student, teacher = split(lines)
    for name, own in (("cls_student", student), ("cls_teacher", teacher)):
        bundle = run_page(name, own, tmp_path / name, class_dataset, monkeypatch)
        assert (bundle / "CLASSES" / "classes.csv").is_file()
