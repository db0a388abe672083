"""The lines of the pages of the study, run as they are printed in a checkout with small data and untrained networks."""

from __future__ import annotations

import importlib
import json
import math
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from disc_slices import write_disc_slices
from documented import ROOT, copied_checkout, run
from heads_folder import write_heads
from monai.bundle import ConfigParser
from page_lines import EVALUATE, lines_of

from monai_kd.bundle import second_reader, trained_network, trained_settings
from monai_kd.config import build_network, refuse_unknown

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import NAMES, NETWORKS, described, save, untrained


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


def write_volume(checkout: Path, tumours: Sequence[bool]) -> None:
    """brain1.nii.gz and its label, which says on which slices there are tumours."""
    for kind, name in (("images", "brain1"), ("labels", "brain1_label")):
        planes = [
            nib.load(checkout / "DATA" / kind / f"000{n}.nii.gz").get_fdata()[..., 0] * (has or kind == "images")
            for n, has in enumerate(tumours)
        ]
        nib.save(nib.Nifti1Image(np.stack(planes, -1), np.diag([-0.5, -0.5, 6, 1])), checkout / f"{name}.nii.gz")


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
    # Written by another line.
    (checkout / "START").mkdir()
    (checkout / "START" / "model.pt").touch()
    for line in lines:
        for name in ("teacher=", "start="):
            if name in line:
                # Where its training went, above.
                assert (checkout / line.partition(name)[2].split()[0]).is_file()
        run(line, checkout, monkeypatch)
    kinds = [command[4] for command in begun]
    assert kinds.count("training") == len(lines) == 97
    # Plain, mirrored and with tumours taken out, but for those of all folds; the last not for three classifiers.
    assert kinds.count("evaluating") == 3 * 87 - 3


def test_plan(lines, checkout, monkeypatch):
    """Pack, train by the plan and fetch, where the machine with the GPU is this one, and a training a file."""
    monkeypatch.chdir(checkout)
    monkeypatch.syspath_prepend(str(checkout / "docs" / "experiments"))
    gpu_files, gpu_plan = (importlib.import_module(name) for name in ("gpu_files", "gpu_plan"))
    monkeypatch.setattr(gpu_files, "PRETRAINED", ())
    begun = []

    def trained(plan: gpu_plan.Plan, minutes: float, _environment: dict) -> int:
        for job in plan.jobs:
            begun.append((job.run.network, job.run.how, job.run.values["fold"], minutes))
            untrained("seg_student", job.run.folder)
            (plan.logs / job.name).mkdir(parents=True)
        return 0

    monkeypatch.setattr(gpu_plan.Plan, "run", trained)
    for line in lines:
        program, *words = shlex.split(line)
        assert (checkout / program).is_file()
        assert gpu_files.main([str(checkout / "docs" / "experiments"), *words]) == 0
    assert len(begun) == 14
    assert {minutes for *_, minutes in begun} == {9.0}
    names = [path.parent.name for path in (checkout / "FOLDER" / "runs").glob("*/model.pt")]
    assert len(names) == sum(network == "lite0" for network, *_ in begun) == 9
    assert all(name.startswith("seg_lite0_") for name in names)
    assert len(list((checkout / "FOLDER" / "results").iterdir())) == 14


def test_heads_without_a_tumour(lines, checkout, monkeypatch):
    (line,) = lines
    for name in ("raw.nii.gz", "mean_reg2mean.nii.gz"):
        write_heads(checkout / "made" / name)
        shutil.copy(checkout / "made" / name / "healthy.nii.gz", checkout / name)
    run(line, checkout, monkeypatch)
    listed = json.loads((checkout / "HEADS" / "datalist.json").read_text())["training"]
    assert {entry["patient"] for entry in listed} == {"raw", "mean_reg2mean"}
    assert sum(entry["source"].endswith("_inverted") for entry in listed) == len(listed) / 2


def test_comparison_and_robustness(lines, checkout, monkeypatch, capsys):
    runs_of, robustness, *compares = lines
    of_two_folds = [line for line in compares if "compare_runs.py" in line]
    compares = [line for line in compares if line not in of_two_folds]
    names = [f"seg_lite0_{how}_fold4_seed0" for how in ("alone", "distilled")]
    long = "fold4_seed0_epochs10_negatives0.3"
    names += [f"seg_{how}_{long}" for how in ("lite0_alone", "hybrid_alone", "lite0_distilled")]
    names += [f"seg_lite0_alone_fold4_seed0_epochs20{negatives}" for negatives in ("_negatives0.3", "")]
    names += [
        f"seg_lite0_{how}_negatives0.3_labels0.1"
        for how in ("alone_fold4_seed0_epochs100", "distilled_fold4_seed0_epochs10")
    ]
    names += [
        f"seg_lite0_{how}_size128_negatives0.3_labels0.1"
        for how in ("alone_fold4_seed0_epochs100", "distilled_fold4_seed0_epochs10")
    ]
    small = "fold4_seed0_epochs10_size128_negatives0.3"
    names += [f"seg_{network}_{how}_{small}" for network in ("lite0", "unet") for how in ("alone", "distilled")]
    names += [
        f"seg_lite0_distilled_{small.replace('128', f'128_recipe{recipe}')}" for recipe in ("kd_logit10", "soft_dice")
    ]
    names.append("seg_lite0_distilled_fold4_seed0_epochs10_size128_recipesoft_dice_negatives0.3_labels0.1")
    names.append("seg_lite0_alone_fold4_seed0_epochs10_size128")
    names += [f"seg_lite0_alone_fold1_seed0_epochs10_size128{negatives}" for negatives in ("", "_negatives0.3")]
    names.append(f"seg_unet_distilled_{small}_fixed_target")
    for seed in ("seed0", "seed1"):
        other = small.replace("seed0", seed)
        names += [f"seg_lite0_{how}_{other}_random_weights" for how in ("alone", "distilled")]
    for other in (small.replace("fold4", "fold1"), small.replace("epochs10", "epochs20")):
        names += [f"seg_unet_{how}_{other}" for how in ("alone", "distilled")]
    evaluated(checkout, untrained("seg_student", checkout / "runs" / names[0], fold=3), monkeypatch)
    for name in [*names[1:], "both"]:
        shutil.copytree(checkout / "runs" / names[0], checkout / "runs" / name)
        evaluation = checkout / "runs" / name / "evaluation"
        for kind in ("mirrored", "negatives"):
            shutil.copytree(evaluation, evaluation.with_name(f"evaluation_{kind}"))
    capsys.readouterr()
    for line in (runs_of, *(re.sub(r"fold\[\d+\]", "fold4", line) for line in of_two_folds)):
        run(line, checkout, monkeypatch)
        assert "| 4 | 0 | 0." in capsys.readouterr().out
    assert len(compares) == 14
    for compare in compares:
        run(compare, checkout, monkeypatch)
    monkeypatch.setattr(subprocess, "run", in_this_process)
    run(f"{robustness} --kinds blur", checkout, monkeypatch)
    assert "| blur 4 | 0." in capsys.readouterr().out
    assert len(list((checkout / "robust" / "distilled").glob("blur_*/metrics.json"))) == 3


def test_ensemble(lines, checkout, monkeypatch):
    join, evaluation = lines
    for draw, word in enumerate(shlex.split(join)):
        if word.endswith("model.pt"):
            untrained("seg_student", checkout / Path(word).parent, draw, fold=3, dataset_dir=str(checkout / "DATA"))
    run(join, checkout, monkeypatch)
    run(evaluation, checkout, monkeypatch)
    metrics = json.loads((checkout / "runs" / "both" / "evaluation" / "metrics.json").read_text())
    assert metrics["settings"]["network_def"]["_target_"] == "monai_kd.networks.Ensemble"
    assert metrics["dataset"]["fold"] == 3


def test_scores_of_presence(lines, checkout, monkeypatch, capsys):
    context, scores = sorted(lines)
    point = {"score": "top_k_mean", "threshold": 0.5, "specificity": 0.9, "sensitivity": 0.8, "measured_on": "discs"}
    untrained("seg_student", checkout / "RUN", fold=3, operating_point=point)
    write_volume(checkout, tumours=(True, False))
    run(scores, checkout, monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    assert "brain1.nii.gz" in printed[0]
    assert all(0 <= float(each.split()[-1]) <= 1 for each in printed[1:])
    run(context, checkout, monkeypatch)
    printed = capsys.readouterr().out
    assert printed.count("brain1.nii.gz") == printed.count("all taken out") == 6  # three weights, two thresholds
    shares = [float(each) for each in re.findall(r"[01]\.\d{3}", printed.partition("\n")[2])]
    assert all(0 <= each <= 1 for each in shares)


def test_marks_of_a_volume(lines, checkout, monkeypatch, capsys):
    (line,) = lines
    models = checkout / "bundles" / "seg_student" / "models"
    point = {"score": "max", "threshold": 1.0, "specificity": 0.9, "sensitivity": 0.8, "measured_on": "discs"}
    untrained("seg_student", models, operating_point=point)
    write_volume(checkout, tumours=(True, True, True))
    run(line, checkout, monkeypatch)
    without, with_rule = capsys.readouterr().out.splitlines()[-2:]
    assert 0 <= float(without.split()[-1]) <= 1
    assert with_rule.endswith(" 0.000")  # no score reaches 1
    for name in ("areas.png", "slices.png"):
        assert (checkout / name).stat().st_size > 1000


def test_a_volume_of_the_study_is_slices_of_one_patient_with_consecutive_numbers():
    program = runpy.run_path(str(ROOT / "docs" / "experiments" / "presence_context.py"))
    entries = [{"patient": patient, "source": f"{n}.mat"} for patient, n in (("a", 3), ("a", 1), ("b", 4), ("a", 2))]
    entries += [{"patient": "a", "source": "10.mat"}, {"patient": "b", "source": "5.mat"}]
    found = [[entry["source"] for entry in own] for own in program["volumes_of"](entries)]
    assert found == [["1.mat", "2.mat", "3.mat"], ["10.mat"], ["4.mat", "5.mat"]]
    scores = [[(0.9, 0.1), (0.8, 0.2), (0.7, 0.3), (0.6, 0.4)]]
    made = program["scenes"](scores)
    assert made["ends taken out"] == [([0.1, 0.8, 0.7, 0.4], [False, True, True, False])]
    assert made["tumour on one slice"][0] == ([0.1, 0.8, 0.3], [False, True, False])
    assert made["tumour on two slices"] == [([0.1, 0.8, 0.7, 0.4], [False, True, True, False])]


def test_a_shifted_class_is_named_from_its_probability(tmp_path):
    program = runpy.run_path(str(ROOT / "docs" / "experiments" / "shift_class.py"))
    checkpoint = untrained("cls_student", tmp_path / "run", half_precision={"metric": "Dice", "lost": {"all": 0.0}})
    program["shift"](str(checkpoint), str(tmp_path / "out"), "glioma", 0.8)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, after = (
        trained_network(trained_settings(path), path).eval()(images).softmax(1)
        for path in (checkpoint, tmp_path / "out" / "model.pt")
    )
    # Against any other class, its odds are a quarter of what they were; those of the others stay.
    torch.testing.assert_close(after[:, 1] / after[:, 0], before[:, 1] / before[:, 0] / 4)
    torch.testing.assert_close(after[:, 2] / after[:, 0], before[:, 2] / before[:, 0])
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["shifted"] == {"glioma": 0.8}
    # Measured with the weights as they were.
    assert "half_precision" not in settings
    for name, probability, folder in (("none", 0.8, "a"), ("glioma", 1.0, "b"), ("glioma", 0.8, "out")):
        with pytest.raises(ValueError, match=r"not 'none'|between 0 and 1|exists already"):
            program["shift"](str(checkpoint), str(tmp_path / folder), name, probability)


@pytest.fixture
def more_slices(checkout: Path) -> None:
    (checkout / "DATA").unlink()
    write_disc_slices(checkout / "DATA", 48, folds=4, class_of=lambda patient: patient // 8)


def knows_no_tumour(folder: Path, **values: object) -> Path:
    """A classifier that calls whatever it sees "no tumour", by which it has a temperature."""
    definition, names = {**NETWORKS["cls_student"], "num_classes": 4}, [*NAMES, "no tumour"]
    state = build_network(definition).state_dict()
    state |= {"classifier.weight": torch.zeros(4, len(state["classifier.weight"][0]))}
    state |= {"classifier.bias": torch.tensor([0.0, 0.0, 0.0, 1.0 + math.log(9)])}
    folder.mkdir(parents=True)
    told = {"fold": 3, "image_size": 224, "network_def": definition, "class_names": names, **values}
    return save(folder, state, **described("cls_student", **told))


@pytest.mark.usefixtures("more_slices")
def test_twins_and_the_released_pair(lines, checkout, monkeypatch, capsys):
    """Both twins are kept, copied and measured; networks that have seen all folds are released with their point."""
    twin_of_masks, twin_of_classes, copy, whole, alone, pair, table, *decided, familiarity, shift, release = lines
    shutil.rmtree(checkout / "docs" / "experiments" / "twins", ignore_errors=True)
    # Of the size that metadata.json has.
    untrained("seg_student", checkout / "RUN", fold=3, image_size=256)
    run(twin_of_masks, checkout, monkeypatch)
    shutil.rmtree(checkout / "RUN")
    knows_no_tumour(checkout / "RUN")
    run(twin_of_classes, checkout, monkeypatch)
    assert shlex.split(copy) == ["cp", "-r", "docs/experiments/twins", "TWINS"]
    shutil.copytree(checkout / "docs" / "experiments" / "twins", checkout / "TWINS")
    for line in (whole, alone):
        run(line, checkout, monkeypatch)
    run(pair, checkout, monkeypatch, instead={"specificity": 0.5})
    capsys.readouterr()
    run(table, checkout, monkeypatch)
    assert len(capsys.readouterr().out.splitlines()) == 2 + 1 + 6
    assert len(decided) == 8
    for line in decided:
        run(line, checkout, monkeypatch)

    shutil.rmtree(checkout / "RUN")
    state = torch.load(untrained("seg_student", checkout / "RUN", fold=None, image_size=256), weights_only=True)
    state["final_conv.bias"] += 1
    checkpoint = save(checkout / "RUN", state, **described("seg_student", fold=None, image_size=256))
    shutil.rmtree(checkout / "bundles" / "cls_student" / "models", ignore_errors=True)
    knows_no_tumour(checkout / "bundles" / "cls_student" / "models", fold=None)
    run(familiarity, checkout, monkeypatch)
    run(shift, checkout, monkeypatch)
    run(release, checkout, monkeypatch)
    models = checkout / "bundles" / "seg_student" / "models"
    assert (models / "model.pt").read_bytes() == checkpoint.read_bytes()
    assert (models / "familiarity.safetensors").is_file()
    assert second_reader(models / "model.pt", trained_settings(models / "model.pt")) is not None
    # The numbers are those of the other networks.
    measured_on = json.loads((models / "settings.json").read_text())["operating_point"]["measured_on"]
    assert "a network of the same recipe" in measured_on
    assert "a classifier of the same recipe" in measured_on


@pytest.mark.usefixtures("more_slices")
def test_one_network_for_both_tasks(lines, checkout, monkeypatch, capsys):
    head, classes, alone, pair, table = lines
    definition = {"_target_": "monai_kd.networks.TimmUNet", "encoder": "mobilenetv3_small_050", "features": [8] * 5}
    definition["classes"] = len(NAMES) + 1
    told = {"network_def": definition, "fold": 3, "image_size": 64, "mask_names": ["tumour"], "class_names": NAMES}
    told["weights"] = {"supervised": 1, "class": 0.5}
    save(checkout / "BOTH", build_network(definition).state_dict(), **described("seg_student", **told))
    run(head, checkout, monkeypatch)
    run(classes, checkout, monkeypatch)
    assert "kinds" in json.loads((checkout / "CLASSES" / "evaluation" / "metrics.json").read_text())
    run(alone, checkout, monkeypatch)
    run(pair, checkout, monkeypatch, instead={"specificity": 0.5})
    columns = [
        (checkout / "BOTH" / name / "slices.csv").read_text().splitlines()[0].split(",")
        for name in ("evaluation_pair", "evaluation_alone")
    ]
    assert ["p_tumour" in each for each in columns] == [True, False]
    capsys.readouterr()
    run(table, checkout, monkeypatch)
    assert len(capsys.readouterr().out.splitlines()) == 2 + 1 + 6


@pytest.mark.usefixtures("more_slices")
def test_releases(lines, checkout, monkeypatch):
    calibrate, *of_classes = lines
    state = torch.load(untrained("cls_student", checkout / "RUN", fold=3, image_size=224), weights_only=True)
    # The other way round, the network is right more often than by chance on these slices, as a temperature needs.
    state |= {name: -state[name] for name in ("classifier.weight", "classifier.bias")}
    save(checkout / "RUN", state, **described("cls_student", fold=3, image_size=224))
    run(calibrate, checkout, monkeypatch)
    assert (checkout / "RUN" / "evaluation" / "temperature.json").is_file()

    # Networks that know "no tumour", of which the numbers are those of the other one.
    shutil.rmtree(checkout / "RUN")
    for name in ("RUN", "TWIN"):
        knows_no_tumour(checkout / name)
    assert len(of_classes) == 6
    for line in of_classes:
        run(line, checkout, monkeypatch)
    models = checkout / "bundles" / "cls_student" / "models"
    assert json.loads((models / "temperature.json").read_text())["fitted_to"].startswith("fold 3 (counted from 0)")
    assert json.loads((models / "settings.json").read_text())["shifted"] == {"no tumour": 0.9}
