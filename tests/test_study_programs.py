"""The programs of docs/study.md: the commands that they run are those of the configs, and what travels arrives."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch
from disc_slices import write_disc_slices
from monai.bundle import ConfigParser

from monai_kd.bundle import second_reader, trained_settings
from monai_kd.config import build_network, refuse_unknown
from monai_kd.io import load_weights
from monai_kd.io.checksum import file_sha256
from monai_kd.io.trained import read_trained, save_trained
from monai_kd.networks import create_backbone
from monai_kd.networks.installed_weights import weights_package
from monai_kd.transforms import slice_preprocessing

sys.path.append(str(Path(__file__).parent / "bundles"))
from tiny import untrained

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "docs" / "experiments"


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.append(str(EXPERIMENTS))  # these programs import each other
study, gpu_files, release = program("study"), program("gpu_files"), program("release")
gpu_plan, rule_table = program("gpu_plan"), program("rule_table")
presence_scores, resize_vit = program("presence_scores"), program("resize_vit")
twin = program("twin")
NAMES = [
    (task, network, how)
    for (task, network), (bundle, _, _) in study.NETWORKS.items()
    for how in (study.RECIPES[task] if bundle.endswith("student") else ["alone"])
]


def parts(command: list[str]) -> tuple[list[str], dict[str, str]]:
    """Config files and overrides of a command."""
    assert [*command[1:4], command[5]] == ["-m", "monai.bundle", "run", "--config_file"]
    values = dict(zip(command[7::2], command[8::2], strict=True))
    return ast.literal_eval(command[6]), {name.removeprefix("--"): value for name, value in values.items()}


@pytest.mark.parametrize("fold", ["2", "all"])
@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_commands_fit_the_configs(name, fold, tmp_path):
    run = study.Run(*name, {"data": "DATA", "runs": str(tmp_path), "fold": fold, "show": "1", "device": "cpu"})
    for command in [run.training(), *(command for _, command in run.evaluations())]:
        files, values = parts(command)
        parser = ConfigParser()
        parser.read_config(files)
        refuse_unknown(values, parser, files[0])
    training = parts(run.training())[1]
    assert training.get("fold") == (None if fold == "all" else "1")
    assert ("teacher_checkpoint" in training) == (name[2] != "alone")
    # Also with the tumours taken out of half of the slices, which asks nothing of a segmentation.
    assert len(list(run.evaluations())) == (0 if fold == "all" else 3 if name[0] == "seg" else 2)


def test_alone_and_distilled_differ_in_the_distillation_alone(tmp_path):
    common = {"data": "DATA", "runs": str(tmp_path), "show": "1"}
    alone, distilled = (parts(study.Run("seg", "lite0", how, common).training()) for how in ("alone", "distilled"))
    assert alone[0] == distilled[0]
    different = {key for key in alone[1].keys() | distilled[1].keys() if alone[1].get(key) != distilled[1].get(key)}
    assert different == {"output_dir", "recipe", "teacher_checkpoint"}


def test_negatives_are_those_of_the_teacher_and_have_an_evaluation_of_their_own(tmp_path):
    given = {"data": "DATA", "runs": str(tmp_path), "negatives": "0.3", "show": "1"}
    run = study.Run("seg", "lite0", "distilled", given)
    values = parts(run.training())[1]
    assert run.folder.name == "seg_lite0_distilled_fold4_seed0_negatives0.3"
    assert (values["negative_probability"], values["batch_dice"]) == ("0.3", "False")
    assert values["teacher_checkpoint"] == str(tmp_path / "seg_hybrid_alone_fold4_seed0_negatives0.3" / "model.pt")
    *_, (folder, command) = run.evaluations()
    files, values = parts(command)
    assert folder.name == "evaluation_negatives"
    assert (values["negative_share"], values["specificity"]) == ("0.5", "0.9")
    parser = ConfigParser()
    parser.read_config(files)
    refuse_unknown(values, parser, files[0])
    *_, (_, command) = study.Run("cls", "lite0", "alone", given).evaluations()
    files, values = parts(command)
    assert values["negative_share"] == "0.5"
    parser = ConfigParser()
    parser.read_config(files)
    refuse_unknown(values, parser, files[0])
    run = study.Run("seg", "lite0", "distilled", {**given, "batch_dice": "1"})
    values = parts(run.training())[1]
    assert run.folder.name == "seg_lite0_distilled_fold4_seed0_negatives0.3_batch_dice1"
    assert (values["batch_dice"], Path(values["teacher_checkpoint"]).parent.name) == (
        "True",
        "seg_hybrid_alone_fold4_seed0_negatives0.3_batch_dice1",
    )


POINT = {"score": "max", "threshold": 0.1, "specificity": 0.9, "sensitivity": 0.8, "measured_on": "fold 3"}


def test_transformer_of_smaller_slices_sees_smaller_ones(tmp_path):
    """As 224 are of 256, in whole patches of 14; without it, smaller slices cost the teacher as much as large ones."""
    given = {"data": "DATA", "runs": str(tmp_path), "show": "1"}
    side = "network_def#vit_image_size"
    assert side not in parts(study.Run("seg", "hybrid", "alone", given).training())[1]
    assert side not in parts(study.Run("seg", "lite0", "alone", {**given, "size": "128"}).training())[1]
    files, values = parts(study.Run("seg", "hybrid", "alone", {**given, "size": "128"}).training())
    assert values[side] == "112"
    parser = ConfigParser()
    parser.read_config(files)
    refuse_unknown(values, parser, files[0])


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Path:
    """A copy of a bundle without weights, in which weights are released."""
    monkeypatch.setattr(release, "ROOT", tmp_path)
    shutil.copytree(
        ROOT / "bundles" / "seg_student", tmp_path / "bundles" / "seg_student", ignore=shutil.ignore_patterns("models")
    )
    return tmp_path / "bundles" / "seg_student"


def released(words: list[str]) -> None:
    """As its command, with its errors."""
    release.release(words[0], words[1], dict(word.split("=", 1) for word in words[2:]))


def test_release_says_of_what_the_numbers_are(bundle, tmp_path, capsys):
    run = tmp_path / "run"
    checkpoint = untrained("seg_student", run, image_size=256, dataset_dir="/data", operating_point=POINT)
    point = {**POINT, "threshold": 0.7}
    (run / "operating_point.json").write_text(json.dumps(point))
    part = {"slices": 5, "patients": 2, "metrics": {"dice": {"over_slices": {"mean": 0.75}}}}
    found = {"overall": part, "dataset": {"fold": 3}, "synthetic": False, "checkpoint": {"sha256": "of another"}}
    (run / "metrics.json").write_text(json.dumps(found))
    before = (bundle / "configs" / "metadata.json").read_text().splitlines()
    words = [f"operating_point={run}", f"metrics={run}"]
    assert release.main(["seg_student", str(checkpoint), *words]) == 0
    assert (bundle / "models" / "model.pt").read_bytes() == checkpoint.read_bytes()
    settings = json.loads((bundle / "models" / "settings.json").read_text())
    assert settings["operating_point"] == {**point, "measured_on": f"fold 3; {release.SAME_RECIPE}"}
    assert settings["dataset_dir"] is None
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == {
        **{"of": f"fold 3 (counted from 0), without the presence rule; {release.SAME_RECIPE}", "mean_dice": 0.75},
        **{"slices": 5, "patients": 2},
    }
    assert metadata["weights_sha256"] == settings["weights_sha256"] == file_sha256(checkpoint)
    # The rest of the file stays as it is, but for the network's size and values.
    after = (bundle / "configs" / "metadata.json").read_text().splitlines()
    assert len(set(after) - set(before)) <= 4
    assert settings["weights_sha256"] in capsys.readouterr().out
    # Numbers of these very weights.
    (run / "metrics.json").write_text(json.dumps({**found, "checkpoint": {"sha256": file_sha256(checkpoint)}}))
    assert release.main(["seg_student", str(checkpoint), *words]) == 0
    assert json.loads((bundle / "models" / "settings.json").read_text())["operating_point"] == point
    assert json.loads((bundle / "configs" / "metadata.json").read_text())["eval_metrics"] == {
        **{"of": "fold 3 (counted from 0), without the presence rule", "mean_dice": 0.75},
        **{"slices": 5, "patients": 2},
    }


def test_release_with_a_second_reader(bundle, tmp_path):
    size = {"image_size": 256, "in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    checkpoint = untrained("seg_student", tmp_path / "run", **size)
    other = untrained("cls_student", tmp_path / "other", class_names=["glioma", "no tumour"], num_classes=2)
    found = {"synthetic": False, "checkpoint": {"sha256": file_sha256(checkpoint)}}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(found))
    of_twin = {**POINT, "classifier": "0" * 64}
    (tmp_path / "run" / "operating_point.json").write_text(json.dumps(of_twin))
    words = ["seg_student", str(checkpoint), f"operating_point={tmp_path / 'run'}"]
    with pytest.raises(ValueError, match="classifier is needed where"):
        released(words)
    with pytest.raises(ValueError, match="classifier belongs to an operating_point"):
        released([*words[:2], f"classifier={other}"])
    assert release.main([*words, f"classifier={other}"]) == 0
    models = bundle / "models"
    point = json.loads((models / "settings.json").read_text())["operating_point"]
    assert point["classifier"] == file_sha256(models / "classifier.safetensors")
    assert point["measured_on"].endswith(release.SAME_READER)
    assert second_reader(models / "model.pt", trained_settings(models / "model.pt")) is not None
    # Another release without one leaves none behind; one that is judged by its own classes needs no file.
    assert release.main(["seg_student", str(checkpoint)]) == 0
    assert not (models / "classifier.safetensors").exists()
    (tmp_path / "run" / "operating_point.json").write_text(json.dumps({**POINT, "classifier": "own"}))
    with pytest.raises(ValueError, match="with a file of one, and only there"):
        released([*words, f"classifier={other}"])
    assert release.main(words) == 0
    assert json.loads((models / "settings.json").read_text())["operating_point"]["classifier"] == "own"


def test_a_twin_is_kept_in_half_precision_without_places_or_operating_point(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(twin, "ROOT", tmp_path)
    checkpoint = untrained("seg_student", tmp_path / "run", image_size=256, dataset_dir="/data", fold=3)
    assert twin.main(["seg_student", str(checkpoint)]) == 0
    kept = tmp_path / "docs" / "experiments" / "twins" / "seg_student" / "model.pt"
    assert str(kept) in capsys.readouterr().out
    settings, state = trained_settings(kept), torch.load(kept, weights_only=True)
    assert settings["dataset_dir"] is settings["operating_point"] is None
    assert settings["fold"] == 3
    assert read_trained(kept)["weights_sha256"] == file_sha256(kept)
    own = torch.load(checkpoint, weights_only=True)
    for name, value in own.items():
        assert torch.equal(state[name], value.half() if value.is_floating_point() else value)
    load_weights(build_network(settings["network_def"], trusted=True), kept)
    # Once more, in place of the first one.
    assert twin.main(["seg_student", str(checkpoint)]) == 0
    assert "previous" not in read_trained(kept)


def test_a_network_that_has_seen_all_folds_is_no_twin(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(twin, "ROOT", tmp_path)
    checkpoint = untrained("seg_student", tmp_path / "run", image_size=256)
    assert twin.main(["seg_student", str(checkpoint)]) == 2
    assert "nothing can be measured with it" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_release_with_mirror_images_needs_numbers_with_them(bundle, tmp_path):
    checkpoint = untrained("seg_student", tmp_path / "run", image_size=256)
    part = {"slices": 5, "patients": 2, "metrics": {"dice": {"over_slices": {"mean": 0.75}}}}
    found = {"overall": part, "dataset": {"fold": 3}, "synthetic": False, "checkpoint": {"sha256": "x"}}
    metrics = tmp_path / "run" / "metrics.json"
    words = ["seg_student", str(checkpoint), f"metrics={tmp_path / 'run'}", "mirror=[0]"]
    metrics.write_text(json.dumps({**found, "settings": {"mirror": []}}))
    with pytest.raises(ValueError, match=r"with other mirror images than \[0\]: metrics"):
        released(words)
    metrics.write_text(json.dumps({**found, "settings": {"mirror": [0]}}))
    assert release.main(words) == 0
    assert json.loads((bundle / "models" / "settings.json").read_text())["mirror"] == [0]


def test_release_without_numbers(bundle, tmp_path):
    checkpoint = untrained("seg_student", tmp_path / "run", image_size=256)
    assert release.main(["seg_student", str(checkpoint)]) == 0
    assert json.loads((bundle / "configs" / "metadata.json").read_text())["eval_metrics"] == {}
    assert "operating_point" not in json.loads((bundle / "models" / "settings.json").read_text())
    assert release.main(["seg_student"]) == 2
    small = untrained("seg_student", tmp_path / "small")
    with pytest.raises(ValueError, match="describes another network than the weights"):
        released(["seg_student", str(small)])
    with pytest.raises(ValueError, match="there is no value metric"):
        released(["seg_student", "x.pt", "metric=y"])


def test_a_release_that_fails_replaces_nothing(bundle, tmp_path, capsys):
    first, second = (untrained("cls_student", tmp_path / name, seed=n) for n, name in enumerate(("a", "b")))
    shutil.copytree(ROOT / "bundles" / "cls_student", tmp_path / "bundles" / "cls_student")
    models = tmp_path / "bundles" / "cls_student" / "models"
    files = [*models.iterdir(), models.parent / "configs" / "metadata.json"]
    before = {file: file.read_bytes() for file in files}
    (second.parent / "metrics.json").write_text(json.dumps({"dataset": {"fold": 3}, "checkpoint": {"sha256": "x"}}))
    # It has metrics.json, and no temperature.json.
    assert release.main(["cls_student", str(first), f"temperature={second.parent}"]) == 2
    assert "error: " in capsys.readouterr().err
    assert {file: file.read_bytes() for file in files} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seg", "vgg", "alone", "data=D"], "there is no network seg vgg: seg hybrid"),
        (["seg", "hybrid", "distilled", "data=D"], "seg hybrid is trained alone, not 'distilled'"),
        (["seg", "lite0", "msgff", "data=D"], "seg lite0 is trained alone or distilled, not 'msgff'"),
        (["seg", "lite0", "alone", "data=D", "epoch=3"], "there is no value epoch: data, runs"),
        (["seg", "lite0", "alone", "data=D", "fold=0"], "fold must be 1, 2, 3, 4 or all, got '0'"),
        (["seg", "lite0", "alone"], "give data=FOLDER"),
        (["cls", "lite0", "alone", "data=D", "batch_dice=1"], "batch_dice is of seg"),
        (["seg", "lite0", "distilled", "data=D"], "there is no teacher .*seg_hybrid_alone_fold4_seed0.model.pt"),
        (["seg", "lite0"], "Run one training of the study by its name"),
    ],
)
def test_wrong_calls(words, message, capsys, tmp_path):
    assert study.main([*words, f"runs={tmp_path}"]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_names_have_what_differs_from_the_protocol(tmp_path):
    given = {"data": "DATA", "runs": str(tmp_path)}
    assert study.Run("seg", "lite0", "alone", given).folder == tmp_path / "seg_lite0_alone_fold4_seed0"
    more = {**given, "rate": "0.002", "epochs": "9", "seed": "2", "threads": "2"}
    assert study.Run("seg", "lite0", "alone", more).folder.name == "seg_lite0_alone_fold4_seed2_epochs9_rate0.002"


def test_runs_from_other_weights_are_others(tmp_path):
    given = {"data": "DATA", "runs": str(tmp_path)}
    starts = ["a/one/model.pt", "b/one/model.pt", "a/two/model.pt"]
    names = [study.Run("seg", "lite0", "alone", {**given, "start": start}).folder.name for start in starts]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("seg_lite0_alone_fold4_seed0_start")


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_each_run_can_start_from_weights(name, tmp_path):
    run = study.Run(*name, {"data": "DATA", "runs": str(tmp_path), "start": "START/model.pt", "show": "1"})
    files, values = parts(run.training())
    parser = ConfigParser()
    parser.read_config(files)
    refuse_unknown(values, parser, files[0])
    parser["init_checkpoint"] = values["init_checkpoint"]
    for place in ("train#handlers#2#init_checkpoint", "settings#init_checkpoint"):
        assert parser.get_parsed_content(place) == "START/model.pt"


def test_a_teacher_of_small_images_is_written_for_larger_ones(lines, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (line,) = lines
    _, _, *words = shlex.split(line)
    trained = Path(words[0])
    size = {"encoder": "tf_efficientnet_lite0", "vit_name": "vit_tiny_patch16_224", "features": [8, 8, 8, 8, 8]}
    definition = {"_target_": "monai_kd.networks.TimmHybridUNet", **size, "in_channels": 3, "out_channels": 1}
    small, large = (build_network({**definition, "vit_image_size": side}) for side in (112, 224))
    trained.parent.mkdir(parents=True)
    given = {"network_def": {**definition, "vit_image_size": 112}, "image_size": 128, "in_channels": 3}
    of_it = {"operating_point": POINT, "half_precision": {"metric": "Dice", "lost": {"all": 0.0}}}
    save_trained(small.state_dict(), trained, {"bundle": "seg_teacher", **given, **of_it})

    assert resize_vit.main(words) == 0

    written = read_trained(words[2])
    assert (written["image_size"], written["network_def"]["vit_image_size"]) == (256, 224)
    # Measured with the weights as they were.
    assert not {"operating_point", "half_precision"} & written.keys()
    load_weights(large, words[2])
    before, after = small.state_dict(), large.state_dict()
    (name,) = (name for name in before if name.endswith("pos_embed"))
    assert all(torch.equal(before[each], after[each]) for each in before if each != name)
    # The first is that of the class token; in a grid of 14 x 14, in place of 7 x 7, the means of the rest stay near.
    old, new = before[name][0], after[name][0]
    assert torch.equal(old[0], new[0])
    assert (len(old), len(new)) == (50, 197)
    assert torch.allclose(old[1:].mean(0), new[1:].mean(0), atol=0.3 * float(old[1:].std()))

    assert resize_vit.main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert resize_vit.main([str(tmp_path / "absent.pt"), *words[1:2], str(tmp_path / "other.pt")]) == 2
    assert "absent.pt" in capsys.readouterr().err
    assert resize_vit.main([words[0], "250", str(tmp_path / "other.pt")]) == 2
    assert "multiple of the side of a patch" in capsys.readouterr().err


def test_complete_run_is_not_trained_again_and_time_ends_one(tmp_path, monkeypatch, capsys):
    given = ["seg", "unet", "alone", "data=D", f"runs={tmp_path}", "epochs=2", "minutes=0.01"]
    run = study.Run("seg", "unet", "alone", {"data": "D", "runs": str(tmp_path), "epochs": "2"})
    ran = []

    def fake(command, env, timeout, check):
        ran.append((command[4], env["OMP_NUM_THREADS"], timeout))
        if timeout is not None:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study.subprocess, "run", fake)
    assert study.main(given) == 75
    assert ran == [("training", "1", 0.6)]
    run.folder.mkdir()
    (run.folder / "model.pt").touch()
    (run.folder / "log.csv").write_text("epoch\n1\n")
    assert not run.trained()
    (run.folder / "log.csv").write_text("epoch\n1\n2\n")
    ran.clear()
    assert study.main([*given, "threads=2"]) == 0
    assert ran == [("evaluating", "2", None)] * 3
    (run.folder / "evaluation").mkdir()
    (run.folder / "evaluation" / "metrics.json").touch()
    ran.clear()
    assert study.main(given) == 0
    assert len(ran) == 2


def test_slices_without_a_usable_mask_do_not_travel(disc_dataset, tmp_path):
    shutil.copytree(disc_dataset, tmp_path / "data")
    file = tmp_path / "data" / "datalist.json"
    datalist = json.loads(file.read_text())
    entries, others = datalist["training"][:3], datalist["training"][3:5]
    left_out = [{**others[0], "labelled": False}, {**others[1], "tumour": False}]
    del left_out[1]["label"]
    file.write_text(json.dumps({**datalist, "training": entries + left_out}))
    gpu_files._pack_data(tmp_path / "data", tmp_path / "packed", 32)
    assert len(json.loads((tmp_path / "packed" / "datalist.json").read_text())["training"]) == len(entries)


@pytest.mark.parametrize("filters", [True, False])
def test_archives_write_within_their_folder_alone(filters, tmp_path, monkeypatch):
    """Also by the Python of Debian 12, whose archives have no filters."""
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "file").write_text("text")

    def extracted(**member: str) -> Path:
        archive, place = tmp_path / "archive.tar", tmp_path / "place"
        with tarfile.open(archive, "w") as packed:
            packed.add(tmp_path / "file", "folder/file")
            if member:
                info = tarfile.TarInfo(member["name"])
                info.linkname, info.type = member.get("to", ""), tarfile.SYMTYPE if "to" in member else tarfile.REGTYPE
                packed.addfile(info)
        with tarfile.open(archive) as packed:
            gpu_files._extract(packed, place)
        return place

    assert (extracted() / "folder" / "file").read_text() == "text"
    for member in ({"name": "../outside"}, {"name": "link", "to": "../../outside"}):
        with pytest.raises(tarfile.TarError):
            extracted(**member)
    assert not (tmp_path / "outside").exists()


def test_data_and_weights_travel(disc_dataset, tmp_path, capsys):
    gpu_files.pack(disc_dataset, tmp_path / "there", 48)
    pieces = sorted((tmp_path / "there").glob("pack.tar.*"))
    assert pieces[0].name == "pack.tar.000"
    assert all(piece.stat().st_size <= 30 << 20 for piece in pieces)
    out = tmp_path / "out"
    # An unknown network: it unpacks, and the program ends with its message.
    (tmp_path / "there" / "runs" / "without a network").mkdir(parents=True)
    assert (
        gpu_files.main([str(EXPERIMENTS), "run", str(tmp_path / "there"), str(out), "1", "seg", "none", "alone"]) == 2
    )
    assert "there is no network seg none" in capsys.readouterr().err
    assert not (tmp_path / "there" / "unpacked" / "runs").exists()
    data = tmp_path / "there" / "unpacked" / "data"
    before, after = (json.loads((folder / "datalist.json").read_text())["training"] for folder in (disc_dataset, data))
    assert [{**entry, "image": "", "label": ""} for entry in before] == [
        {**entry, "image": "", "label": ""} for entry in after
    ]
    # A pixel of the smaller slices is larger: areas in mm² stay what they were.
    given, packed = (json.loads((folder / "datalist.json").read_text())["spacing"] for folder in (disc_dataset, data))
    side = nib.load(disc_dataset / before[0]["image"]).shape[0]
    assert packed == pytest.approx([given[0] * side / 48, given[1] * side / 48, given[2]])
    # As the network sees it, but for 8 bits and for brightness and contrast.
    masks = {disc_dataset: None, data: 255}
    for one, other in list(zip(before, after, strict=True))[:3]:
        seen = []
        for folder, entry in ((disc_dataset, one), (data, other)):
            prepare = slice_preprocessing(48, label=True, single_slices=True, mask_value=masks[folder])
            seen.append(prepare({"image": str(folder / entry["image"]), "label": str(folder / entry["label"])}))
        # The slice was resized after it was scaled, and is scaled again.
        assert np.corrcoef(*(np.asarray(each["image"]).ravel() for each in seen))[0, 1] > 0.99
        assert np.array_equal(np.asarray(seen[0]["label"]), np.asarray(seen[1]["label"]))


def test_packed_weights_are_found_as_the_package(tmp_path, monkeypatch):
    name = "tf_efficientnet_lite0"
    if weights_package(name).file() is None:
        pytest.skip(f"the weights of {name} are not installed")
    gpu_files._pack_weights(name, tmp_path / "site")
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.pth")) < 10e6
    code = (
        "from monai_kd.networks import create_backbone\n"
        "from monai_kd.networks.installed_weights import weights_package\n"
        f"package = weights_package('{name}')\n"
        f"assert str(package.file()).startswith('{tmp_path}'), package.file()\n"
        "print(package.version(), float(create_backbone('" + name + "', True).conv_stem.weight.abs().sum()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    version, total = done.stdout.split()[-2:]
    assert version == weights_package(name).version()
    assert float(total) == pytest.approx(float(create_backbone(name, True).conv_stem.weight.abs().sum()), rel=1e-3)


def test_networks_come_back_in_half_precision_and_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_files, "RETURNED", 3000)
    trained = tmp_path / "runs" / "seg_a"
    trained.mkdir(parents=True)
    state = {"weight": torch.randn(4000), "count": torch.tensor(7)}
    save_trained(state, trained / "model.pt", {"network_def": {"_target_": "X"}})
    (trained / "log.csv").write_text("epoch\n1\n")
    (trained / "evaluation").mkdir()
    (trained / "evaluation" / "metrics.json").write_text("{}")
    (tmp_path / "logs").mkdir()
    shutil.copytree(trained, tmp_path / "runs" / "seg_b")
    gpu_files.collect(tmp_path / "runs", tmp_path / "out", ["*"], tmp_path / "logs")
    gpu_files.fetch(tmp_path / "out", tmp_path / "here")
    kept = (tmp_path / "here" / "runs" / "seg_b" / "model.pt").read_bytes()
    # The next time, one of them comes back.
    gpu_files.collect(tmp_path / "runs", tmp_path / "out", ["*_a"], tmp_path / "logs")
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert [file for file in files if not file.startswith("seg_a.pt.00")] == ["results.tar.gz"]
    assert all(file.stat().st_size <= 3000 for file in (tmp_path / "out").glob("seg_a.pt.*"))
    gpu_files.fetch(tmp_path / "out", tmp_path / "here")
    assert (tmp_path / "here" / "results" / "seg_b" / "evaluation" / "metrics.json").is_file()
    assert (tmp_path / "here" / "runs" / "seg_b" / "model.pt").read_bytes() == kept
    assert read_trained(tmp_path / "here" / "runs" / "seg_b" / "model.pt") is not None
    found = tmp_path / "here" / "runs" / "seg_a" / "model.pt"
    assert read_trained(found)["network_def"] == {"_target_": "X"}
    assert (found.parent / "log.csv").is_file()
    # A part that was damaged on its way is noticed.
    first = tmp_path / "out" / "seg_a.pt.000"
    *others, last = first.read_bytes()
    first.write_bytes(bytes([*others, last ^ 1]))
    with pytest.raises(ValueError, match="belongs to other weights"):
        gpu_files.fetch(tmp_path / "out", tmp_path / "here")
    assert found.is_file()
    loaded = torch.load(found, weights_only=True)
    assert loaded["weight"].dtype is torch.float16
    assert int(loaded["count"]) == 7
    torch.testing.assert_close(loaded["weight"].float(), state["weight"], rtol=1e-3, atol=1e-3)


def fake_study(folder: Path, code: str) -> Path:
    """A folder with a study.py that notes its words, and does what it is told."""
    (folder / "study.py").write_text(
        "import json, sys, time\n"
        "from pathlib import Path\n"
        "words = sys.argv[1:]\n"
        "given = dict(word.split('=', 1) for word in words if '=' in word)\n"
        "only = given.get('evaluate') == '0'\n"
        "run = Path(given['runs']) / '_'.join([*words[:3], f\"fold{given['fold']}\", 'seed0'])\n"
        "with open(given['runs'] + '/order', 'a') as file:\n"
        "    file.write(f\"{words[1]} {words[2]} {'train' if only else 'evaluate'}\\n\")\n"
        f"{code}\n"
        "run.mkdir(exist_ok=True)\n"
        "(run / 'model.pt').touch()\n"
        "(run / 'log.csv').write_text('epoch\\n40\\n')\n"
    )
    return folder


TEACHER, STUDENT = ["seg", "hybrid", "alone", "fold=4"], ["seg", "lite0", "distilled", "fold=4"]


def plan_of(tmp_path: Path, code: str, lines=(STUDENT, TEACHER)) -> gpu_plan.Plan:
    places = ["data=D", f"runs={tmp_path}"]
    return gpu_plan.Plan(fake_study(tmp_path, code), [[*line, *places] for line in lines], tmp_path / "logs")


def planned(tmp_path: Path, code: str, minutes: float = 1.0, lines=(STUDENT, TEACHER)) -> tuple[int, list[str]]:
    code = plan_of(tmp_path, code, lines).run(minutes, {"PATH": ""})
    return code, (tmp_path / "order").read_text().splitlines()


def test_a_student_waits_for_the_teacher_of_the_same_plan(tmp_path):
    # It does not wait for the evaluation of its teacher, which here takes until the student trains.
    code, order = planned(
        tmp_path,
        "time.sleep(0.3 * (words[1] == 'hybrid'))\n"
        "runs, end = Path(given['runs']), time.monotonic() + 30\n"
        "if words[1] == 'lite0' and not (runs / 'seg_hybrid_alone_fold4_seed0' / 'model.pt').is_file():\n"
        "    sys.exit('there is no teacher')\n"
        "while words[1] == 'hybrid' and not only and 'lite0 distilled train' not in (runs / 'order').read_text():\n"
        "    if time.monotonic() > end:\n"
        "        sys.exit('the student waits')\n"
        "    time.sleep(0.02)",
    )
    assert code == 0
    assert order[0] == "hybrid alone train"
    assert sorted(order[1:]) == ["hybrid alone evaluate", "lite0 distilled evaluate", "lite0 distilled train"]


def test_a_student_by_a_named_file_waits_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = ["seg", "lite0", "distilled", "fold=all", "teacher=seg_hybrid_alone_fold4_seed0/model.pt"]
    code, order = planned(tmp_path, "time.sleep(0.3 * (words[1] == 'hybrid'))", lines=(student, TEACHER))
    assert (code, order[0]) == (0, "hybrid alone train")


def test_a_complete_student_needs_no_teacher(tmp_path):
    run = tmp_path / "seg_lite0_distilled_fold4_seed0"
    run.mkdir()
    (run / "model.pt").touch()
    (run / "log.csv").write_text("epoch\n40\n")
    for name in ("evaluation", "evaluation_mirrored", "evaluation_negatives"):
        (run / name).mkdir()
        (run / name / "metrics.json").touch()
    assert study.main([*STUDENT, "data=D", f"runs={tmp_path}"]) == 0
    code, order = planned(tmp_path, "time.sleep(0.5 * (words[1] == 'hybrid'))")
    assert code == 0
    assert order.index("lite0 distilled evaluate") < order.index("hybrid alone evaluate")


CHILD = (
    "import subprocess\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "Path(given['runs'], 'child').write_text(str(child.pid))\n"
    "time.sleep(60)"
)


def ended(tmp_path: Path) -> bool:
    """Whether the child of the fake study has ended, or does so within 5 seconds."""
    process = Path("/proc", (tmp_path / "child").read_text())
    for _ in range(50):
        if not process.exists() or (process / "stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc")
def test_time_ends_a_plan_and_no_student_learns_from_an_unfinished_teacher(tmp_path, capsys):
    assert planned(tmp_path, CHILD, minutes=0.05) == (75, ["hybrid alone train"])
    assert ended(tmp_path)
    told = capsys.readouterr().out
    assert "seg_hybrid_alone_fold4_seed0: not complete" in told
    assert "seg_lite0_distilled_fold4_seed0: waits for seg_hybrid_alone_fold4_seed0" in told


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_plan_that_is_told_to_end_leaves_nothing_running(number, tmp_path):
    plan = plan_of(tmp_path, CHILD)

    def tell() -> None:
        # A file is there before its content is.
        while not (tmp_path / "child").is_file() or not (tmp_path / "child").read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    # pytest-xdist ignores it in its workers.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=tell).start()
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)), gpu_plan.ended_by_signal():
            plan.run(1, {"PATH": ""})
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended(tmp_path)
    assert not plan.processes


def test_what_failed_in_a_plan_is_said(tmp_path, capsys):
    alone = ["seg", "lite0", "alone", "fold=4"]
    code, order = planned(tmp_path, "sys.exit(3 * (words[1] == 'hybrid'))", lines=(STUDENT, TEACHER, alone))
    assert code == 3
    assert "lite0 distilled train" not in order
    assert re.search(r"seg_hybrid_alone_fold4_seed0: exit code 3, see .*logs", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the plan has no runs"),
        ([TEACHER, TEACHER], "the same run twice"),
        ([[*STUDENT, "teacher=seg_lite0_distilled_fold4_seed0/model.pt"]], "its own teacher"),
        ([["seg", "lite0"]], "a run has three names"),
    ],
)
def test_plans_that_can_t_be(lines, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        plan_of(tmp_path, "", lines)


def test_processes_share_a_gpu_only_where_that_works(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(gpu_plan.shutil, "which", lambda name: None)
    with gpu_plan.shared_gpu({"A": "1"}) as environment:
        assert environment == {"A": "1"}
    program = tmp_path / gpu_plan.MPS
    program.write_text('#!/bin/sh\n[ "$1" = -d ] && echo started || cat\n')
    program.chmod(0o755)
    monkeypatch.setattr(gpu_plan.shutil, "which", lambda name: str(program))
    monkeypatch.setattr(gpu_plan, "PATIENCE", 1)
    for check, shared in (("", True), ("raise SystemExit(1)", False), ("import time; time.sleep(60)", False)):
        monkeypatch.setattr(gpu_plan, "CHECK", check)
        with gpu_plan.shared_gpu({**os.environ, "A": "1"}) as environment:
            assert ("CUDA_MPS_PIPE_DIRECTORY" in environment) == shared
        seen = capfd.readouterr()
        assert seen.out == "started\nquit\n"
        assert ("take turns on the GPU" in seen.err) != shared


def test_an_unfinished_teacher_teaches_nobody(tmp_path, capsys):
    teacher = tmp_path / "seg_hybrid_alone_fold4_seed0"
    teacher.mkdir()
    (teacher / "model.pt").touch()
    (teacher / "log.csv").write_text("epoch\n7\n")
    assert study.main(["seg", "lite0", "distilled", "data=D", f"runs={tmp_path}"]) == 2
    assert "not trained to the end" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_gpu_shows_its_commands():
    # Its Python is the first on the path.
    own = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(EXPERIMENTS / "gpu.sh"), "what"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 2
    assert "docs/experiments/gpu.sh pack DATA FOLDER" in done.stderr


def test_presence_scores_of_a_fold(tmp_path, capsys):
    truth = np.array([False, True, False, True])
    assert presence_scores.area_under_curve(np.array([0.0, 2, 2, 3]), truth) == 3.5 / 4
    assert np.isnan(presence_scores.area_under_curve(np.zeros(4), truth | True))
    checkpoint = untrained("seg_student", tmp_path, fold=0)
    presence_scores.main(str(write_disc_slices(tmp_path / "data", count=18)), str(checkpoint))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * len(presence_scores.SCORES)
    assert all(0 <= float(line.split()[-4]) <= 1 for line in lines[1:])


def test_plan_of_the_folds(tmp_path):
    """Every student of the plan has its teacher in it, and is there alone and distilled."""
    lines = [line.split() for line in (EXPERIMENTS / "folds_plan.txt").read_text().splitlines() if line[0] != "#"]
    runs = [study.Run.named([*line, "data=D", f"runs={tmp_path}"]) for line in lines]
    folders = {run.folder for run in runs}
    assert len(folders) == len(runs)
    for run in runs:
        teacher = run.teacher_run()
        assert teacher is None or teacher.folder in folders
    folds = {
        how: {run.values["fold"] for run in runs if (run.network, run.how) == ("lite0", how)}
        for how in ("alone", "distilled")
    }
    assert folds == {"alone": set("1234"), "distilled": {*"1234", "all"}}


PROGRAMS = sorted(path.name for path in EXPERIMENTS.glob("*.py") if path.name not in ("gpu_files.py", "gpu_plan.py"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_says_how_it_is_called(name, tmp_path, monkeypatch, capsys):
    """Without doing anything; those that gpu.sh calls are left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(EXPERIMENTS / name), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(EXPERIMENTS / name), run_name="__main__")
    printed = "".join(capsys.readouterr()) + str(end.value.code)
    assert f"python docs/experiments/{name}" in printed or f"usage: {name}" in printed
    assert not list(tmp_path.iterdir())


def evaluated_slices(folder, rows):
    """What an evaluation says of slices: score, area of the tumour, area of the mask, Dice."""
    folder.mkdir(parents=True)
    lines = ["image,group,dice,presence_top_k_mean,truth_area_mm2,predicted_area_mm2"]
    lines += [
        f"{number}.png,{number},{'' if dice is None else dice},{score},{truth},{predicted}"
        for number, (score, truth, predicted, dice) in enumerate(rows)
    ]
    (folder / "slices.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_what_the_presence_rule_costs_and_spares(tmp_path, capsys):
    free = [(score, 0.0, 5.0 * (score > 0.25), None) for score in (0.1, 0.2, 0.3, 0.4)]
    tumours = [(0.35, 9.0, 9.0, 0.5), (0.6, 9.0, 9.0, 0.7), (0.8, 9.0, 9.0, 0.9), (0.15, 9.0, 0.0, 0.0)]
    own = evaluated_slices(tmp_path / "run" / "evaluation", [*free, *tumours])
    more = [(0.9, 0.0, 4.0, None), (0.2, 0.0, 4.0, None), (0.9, 5.0, 4.0, 0.6), (0.4, 5.0, 4.0, 0.4)]
    heads = evaluated_slices(tmp_path / "run" / "heads", more)
    assert rule_table.main([str(own), "--specificities", "0.75", "1", "--elsewhere", str(heads)]) == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0][-1] == "marked in run/heads"
    # Two of the four free slices have no mark. Thresholds lie between 0.3 and 0.35, and between 0.4 and 0.6.
    assert rows[2:] == [
        ["0.50 (no rule)", "–", "0.75", f"{2.1 / 4:.3f}", "2 of 2; 2 of 2; 0.500"],
        ["0.75", "0.3250", "0.75", f"{2.1 / 4:.3f}", "1 of 2; 2 of 2; 0.500"],
        ["1.00", "0.5000", "0.50", f"{1.6 / 4:.3f}", "1 of 2; 1 of 2; 0.300"],
    ]


def test_a_table_of_the_rule_needs_both_kinds_of_slices(tmp_path, capsys):
    heads = evaluated_slices(tmp_path / "heads", [(0.9, 0.0, 4.0, None)])
    assert rule_table.main([str(heads)]) == 2
    assert "needs slices with a tumour and without one" in capsys.readouterr().err
    assert rule_table.main([str(tmp_path)]) == 2
    assert "slices.csv" in capsys.readouterr().err
