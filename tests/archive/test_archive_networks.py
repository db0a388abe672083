"""Which networks an archive is done by: slices and volumes, weights that don't fit, and images of no use."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from at_once import AtOnce
from students import classification_student, segmentation_student
from volumes import MODALITIES, REGIONS, write_volumes

from monai_kd.__main__ import main
from monai_kd.archive import command
from monai_kd.config import build_network
from monai_kd.io.trained import save_trained

pytest.importorskip("submitit")

CONFIG = Path(__file__).parents[2] / "bundles" / "seg_student" / "configs" / "volumes_inference.json"
UNET: dict[str, Any] = {
    **{"_target_": "BasicUNet", "spatial_dims": 3, "in_channels": 4, "out_channels": 3},
    **{"features": [4, 4, 8, 8, 8, 4], "norm": ["group", {"num_groups": 2}]},
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch) -> None:
    monkeypatch.setattr(command, "job_executor", lambda *_: AtOnce())


def archived(*arguments: Any) -> int:
    return main([str(each) for each in ("archive", "seg_student", *arguments, "--device", "cpu")])


def test_channels_of_a_volume_are_one_image(tmp_path, capsys):
    write_volumes(tmp_path / "data", 2, (20, 20, 16))
    for path in [*tmp_path.rglob("seg.nii.gz"), *(path for path in (tmp_path / "data").iterdir() if path.is_file())]:
        path.unlink()
    normalization = [{"_target_": "NormalizeIntensity", "nonzero": True, "channel_wise": True}]
    volumes = {"modalities": MODALITIES, "regions": REGIONS, "orientation": "RAS", "spacing": None}
    settings = {"network_def": UNET, "image_size": [16, 16, 16], "spatial_dims": 3, "in_channels": 4}
    settings |= {"mask_names": list(REGIONS), "volumes": {**volumes, "normalization": normalization}}
    (tmp_path / "student").mkdir()
    checkpoint, out = tmp_path / "student" / "model.pt", tmp_path / "out"
    save_trained(build_network(UNET).state_dict(), checkpoint, settings)

    assert archived(checkpoint, tmp_path / "data", out) == 2
    assert "is of a network of volumes" in capsys.readouterr().err
    assert not out.exists()
    assert archived(checkpoint, tmp_path / "data", out, "--config", CONFIG) == 0
    with open(out / "findings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert all((out / row["mask"]).is_file() for row in rows)


def test_weights_that_do_not_fit_are_refused_before_the_plan(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert archived(classification_student(tmp_path / "classes"), tmp_path / "data", tmp_path / "out") == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_archive_without_a_usable_image_is_an_error(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.png").write_bytes(b"no image")
    assert archived(segmentation_student(tmp_path / "student"), tmp_path / "data", tmp_path / "out") == 1
    assert "error: the file could not be used; " in capsys.readouterr().err
