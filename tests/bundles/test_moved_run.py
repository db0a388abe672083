"""Runs whose folders moved, and data lists of others, through the configs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import cause, interrupted, prepare, rows, train, untrained
from volumes import SMALL_TRAINING, write_volumes

TEACHER = {"taps": {"d4": "unet.upcat_4", "d3": "unet.upcat_3", "d2": "unet.upcat_2", "d1": "unet.upcat_1"}}


def test_a_run_is_resumed_where_all_its_folders_have_moved(disc_dataset, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(disc_dataset, old / "data")
    given = {"recipe": "kd_plus_plus", "epochs": 3, "workers": 0}

    def teacher(folder: Path) -> str:
        return str(folder / "teacher" / "model.pt")

    untrained("seg_teacher", old / "teacher", fold=0, **TEACHER)
    train("seg_student", old / "data", old / "whole", teacher_checkpoint=teacher(old), **given)
    trainer = prepare("seg_student", old / "data", old / "run", teacher_checkpoint=teacher(old), **given).trainer
    interrupted(trainer, after=1)
    # Each to another place.
    new.mkdir()
    shutil.move(old / "run", new / "run")
    shutil.move(old / "data", new / "slices")
    shutil.move(old / "teacher", tmp_path / "teacher")
    more = {**given, "resume": True, "teacher_checkpoint": str(tmp_path / "teacher" / "model.pt")}
    train("seg_student", new / "slices", new / "run", **more)
    whole, resumed = rows(old / "whole"), rows(new / "run")
    assert len(resumed) == 3
    for expected, found in zip(whole, resumed, strict=True):
        assert {**found, "seconds": None} == {**expected, "seconds": None}
    assert not list(new.glob("run/earlier-*"))


def test_other_slices_in_its_place_are_refused(disc_dataset, tmp_path):
    shutil.copytree(disc_dataset, tmp_path / "data")
    train("seg_student", tmp_path / "data", tmp_path / "run", recipe="none", epochs=1)
    datalist = json.loads((tmp_path / "data" / "datalist.json").read_text())
    datalist["training"] = datalist["training"][2:]
    (tmp_path / "data" / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train("seg_student", tmp_path / "data", tmp_path / "run", recipe="none", epochs=2, resume=True)
    assert "has other settings: datalist_sha256 was" in cause(caught.value)


def test_a_list_of_auto3dseg_is_trained_on(disc_dataset, tmp_path):
    data = Path(shutil.copytree(disc_dataset, tmp_path / "data"))
    own = json.loads((data / "datalist.json").read_text())["training"]
    entries = [{name: entry[name] for name in ("fold", "image", "label")} for entry in own]
    (data / "datalist.json").write_text(json.dumps({"training": entries}))
    train("seg_student", data, tmp_path / "run", recipe="none", epochs=1)
    (row,) = rows(tmp_path / "run")
    assert row["loss"] > 0
    assert row["val/dice"] is not None


def test_a_list_of_the_decathlon_is_trained_on(tmp_path):
    from test_volume_bundles import trained

    folder = write_volumes(tmp_path / "data", stacked=True)
    own = json.loads((folder / "datalist.json").read_text())
    entries = [{"image": f"./{entry['image']}", "label": f"./{entry['label']}"} for entry in own["training"]]
    labels = {"0": "background", "1": "necrosis", "2": "edema", "4": "enhancing tumour"}
    modality = {str(number): name for number, name in enumerate(("FLAIR", "T1w", "t1gd", "T2w"))}
    (folder / "dataset.json").write_text(json.dumps({"modality": modality, "labels": labels, "training": entries}))
    (folder / "datalist.json").unlink()
    trained(folder, tmp_path / "run", recipe="none", epochs=1)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["mask_names"] == ["necrosis", "edema", "enhancing tumour"]
    assert settings["volumes"]["modalities"] == ["FLAIR", "T1w", "t1gd", "T2w"]
    assert SMALL_TRAINING["image_size"] == settings["image_size"]
