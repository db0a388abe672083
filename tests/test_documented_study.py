"""The lines of docs/study.md, run as they are printed, in a checkout with small data and untrained networks."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from disc_slices import write_disc_slices
from documented import ROOT, copied_checkout, run
from monai.bundle import ConfigParser
from page_lines import EVALUATE, lines_of

from monai_kd.config import refuse_unknown

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import described, save, untrained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folds, as the study has them, each with slices of every class."""
    return write_disc_slices(tmp_path_factory.mktemp("data"), 24, folds=4, class_of=lambda patient: patient // 4)


@pytest.fixture
def checkout(data: Path, tmp_path: Path) -> Path:
    copied_checkout(tmp_path)
    (tmp_path / "DATA").symlink_to(data)
    return tmp_path


def evaluated(folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation as study.py makes it, beside the checkpoint."""
    (line,) = lines_of("docs/evaluation.md", EVALUATE)
    run(line, folder, monkeypatch, instead={"checkpoint": checkpoint, "output_dir": checkpoint.parent / "evaluation"})


def in_this_process(command: list[str], **_: object) -> subprocess.CompletedProcess:
    """A command of Python that a program begins, without the seconds that another process takes to start."""
    assert command[:2] == [sys.executable, "-m"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command[2:])
        try:
            runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            return subprocess.CompletedProcess(command, int(end.code or 0))
    return subprocess.CompletedProcess(command, 0)


def test_runs(lines, checkout, monkeypatch):
    """Each begins its training, with files and values that fit the configs, and its evaluations; none is trained."""
    begun: list[list[str]] = []

    def trained(command: list[str], **_: object) -> subprocess.CompletedProcess:
        begun.append(command)
        given = dict(zip(command[7::2], command[8::2], strict=True))
        names = command[6].strip("[]").replace("'", "").split(",")
        parser = ConfigParser()
        parser.read_config(names)
        refuse_unknown({name.removeprefix("--"): value for name, value in given.items()}, parser, names[0])
        if command[4] == "training":
            folder = checkout / given["--output_dir"]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model.pt").touch()
            (folder / "log.csv").write_text(f"epoch\n{given['--epochs']}\n")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", trained)
    # The teachers of the runs that need one.
    for fold in ("4", "all"):
        for task in ("seg", "cls"):
            folder = checkout / "runs" / f"{task}_hybrid_alone_fold{fold}_seed0"
            folder.mkdir(parents=True)
            (folder / "model.pt").touch()
    for line in lines:
        run(line, checkout, monkeypatch)
    kinds = [command[4] for command in begun]
    assert kinds.count("training") == len(lines) == 12
    # Plain and mirrored, but for those of all folds; and three with negatives.
    assert kinds.count("evaluating") == 2 * 10 + 3


def test_comparison_and_robustness(lines, checkout, monkeypatch, capsys):
    runs_of, robustness, *compares = lines
    names = [f"seg_lite0_{how}_fold4_seed0" for how in ("alone", "distilled")]
    long = "fold4_seed0_epochs10_negatives0.3"
    names += [f"seg_{how}_{long}" for how in ("lite0_alone", "hybrid_alone", "lite0_distilled")]
    evaluated(checkout, untrained("seg_student", checkout / "runs" / names[0], fold=3), monkeypatch)
    for name in names[1:]:
        shutil.copytree(checkout / "runs" / names[0], checkout / "runs" / name)
        evaluation = checkout / "runs" / name / "evaluation"
        shutil.copytree(evaluation, evaluation.with_name("evaluation_negatives"))
    capsys.readouterr()
    run(runs_of, checkout, monkeypatch)
    assert "| 4 | 0 | 0." in capsys.readouterr().out
    assert len(compares) == 2
    for compare in compares:
        run(compare, checkout, monkeypatch)
    monkeypatch.setattr(subprocess, "run", in_this_process)
    run(f"{robustness} --kinds blur", checkout, monkeypatch)
    assert "| blur 4 | 0." in capsys.readouterr().out
    assert len(list((checkout / "robust" / "distilled").glob("blur_*/metrics.json"))) == 3


def test_scores_of_presence(lines, checkout, monkeypatch, capsys):
    (line,) = lines
    # That of the repository, which was not trained on the fourth fold.
    (checkout / "bundles" / "seg_student" / "models").symlink_to(ROOT / "bundles" / "seg_student" / "models")
    for kind, name in (("images", "brain1"), ("labels", "brain1_label")):
        planes = [nib.load(checkout / "DATA" / kind / f"000{n}.nii.gz").get_fdata()[..., 0] for n in range(2)]
        # The second slice has no tumour.
        planes[1] = planes[1] * (kind == "images")
        nib.save(nib.Nifti1Image(np.stack(planes, -1), np.diag([-0.5, -0.5, 6, 1])), checkout / f"{name}.nii.gz")
    run(line, checkout, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert "brain1.nii.gz" in lines[0]
    assert all(0 <= float(each.split()[-1]) <= 1 for each in lines[1:])


def test_releases(lines, checkout, monkeypatch):
    calibrate, familiarity, masks, familiarity_of_classes, classes = lines
    (checkout / "DATA").unlink()
    write_disc_slices(checkout / "DATA", 48, folds=4, class_of=lambda patient: patient // 8)
    # Of the size that metadata.json has.
    checkpoint = untrained("seg_student", checkout / "RUN", fold=3, image_size=256)
    evaluated(checkout, checkpoint, monkeypatch)
    with_negatives = {
        "negative_share": 0.5,
        "specificity": 0.5,
        "output_dir": checkout / "RUN" / "evaluation_negatives",
    }
    (line,) = lines_of("docs/evaluation.md", EVALUATE)
    run(line, checkout, monkeypatch, instead={"checkpoint": checkpoint, **with_negatives})
    run(familiarity, checkout, monkeypatch)
    run(masks, checkout, monkeypatch)
    models = checkout / "bundles" / "seg_student" / "models"
    assert (models / "model.pt").read_bytes() == checkpoint.read_bytes()
    assert "operating_point" in json.loads((models / "settings.json").read_text())
    assert (models / "familiarity.safetensors").is_file()

    shutil.rmtree(checkout / "RUN")
    state = torch.load(untrained("cls_student", checkout / "RUN", fold=3, image_size=224), weights_only=True)
    # The other way round, the network is right more often than by chance on these slices, as a temperature needs.
    state |= {name: -state[name] for name in ("classifier.weight", "classifier.bias")}
    save(checkout / "RUN", state, **described("cls_student", fold=3, image_size=224))
    run(calibrate, checkout, monkeypatch)
    # The numbers are those of another network.
    shutil.copytree(checkout / "RUN", checkout / "SISTER")
    run(familiarity_of_classes, checkout, monkeypatch)
    run(classes, checkout, monkeypatch)
    fitted = json.loads((checkout / "bundles" / "cls_student" / "models" / "temperature.json").read_text())
    assert fitted["fitted_to"].startswith("fold 4")
