"""Folders for MONAI Label, made without it."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from class_students import NAMES, classes_student
from monai.networks.nets import BasicUNet

from monai_kd.__main__ import main
from monai_kd.bundle import familiarity_of, temperature_of
from monai_kd.io.trained import add_settings
from monai_kd.label.served import ServedBundle

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = [4, 4, 8, 8, 8, 4]


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save(BasicUNet(2, 3, 1, WIDTHS, norm="batch").state_dict(), folder / "model.pt")
    (folder / "settings.json").write_text(json.dumps({"features": WIDTHS, "norm": "batch", "image_size": 32}))
    return folder / "model.pt"


def test_the_folder_holds_the_app_and_the_bundle_with_its_weights(checkpoint, tmp_path, capsys):
    assert main(["label_app", str(tmp_path / "app"), "--segmentation", str(checkpoint)]) == 0
    assert "monailabel start_server --app" in capsys.readouterr().out
    bundle = tmp_path / "app" / "model" / "seg_student"
    assert (bundle / "models" / "model.pt").read_bytes() == checkpoint.read_bytes()
    assert json.loads((bundle / "models" / "settings.json").read_text())["image_size"] == 32
    assert {path.name for path in (bundle / "configs").iterdir()} >= {"train.json", "inference.json", "metadata.json"}
    assert "SliceApp" in (tmp_path / "app" / "main.py").read_text()
    assert [path.name for path in (tmp_path / "app" / "model").iterdir()] == ["seg_student"]


def test_temperature_and_familiarity_go_with_the_weights(tmp_path):
    """Those of the repository's weights, by which the answers of the app are those of the bundles."""
    assert main(["label_app", str(tmp_path / "app")]) == 0
    segmentation, classification = (
        tmp_path / "app" / "model" / name / "models" / "model.pt" for name in ("seg_student", "cls_student")
    )
    released = ROOT / "bundles" / "cls_student" / "models" / "model.pt"
    assert temperature_of(classification) == temperature_of(released) > 1
    assert familiarity_of(segmentation) is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param([], "nothing to serve", id="nothing"),
        pytest.param(["--teacher", "MODEL"], "nothing to serve", id="teacher-alone"),
        pytest.param(["--classification", "MODEL"], "--classification: ", id="of-another-bundle"),
        pytest.param(["--segmentation", "absent.pt"], "absent.pt", id="absent"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(checkpoint, tmp_path, capsys, options, said):
    given = [str(checkpoint) if option == "MODEL" else option for option in options]
    # Without the weights that the repository carries.
    for name in ("seg_student", "seg_teacher", "cls_student"):
        shutil.copytree(ROOT / "bundles" / name, tmp_path / "bundles" / name, ignore=shutil.ignore_patterns("models"))
    assert main(["label_app", str(tmp_path / "app"), *given, "--bundles", str(tmp_path / "bundles")]) == 2
    assert said in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run", "bundles"}


def test_the_line_that_starts_the_server_is_one_for_a_shell(checkpoint, tmp_path, capsys):
    folder = tmp_path / "my app"
    assert main(["label_app", str(folder), "--segmentation", str(checkpoint)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "start_server" in line]
    assert shlex.split(line)[:4] == ["monailabel", "start_server", "--app", str(folder)]


def test_a_folder_in_use_is_left_alone(checkpoint, tmp_path, capsys):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "mine.txt").write_text("mine")
    assert main(["label_app", str(tmp_path / "app"), "--segmentation", str(checkpoint)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "app").iterdir()] == ["mine.txt"]


def test_one_class_is_called_tumour(checkpoint, tmp_path):
    main(["label_app", str(tmp_path / "app"), "--segmentation", str(checkpoint)])
    assert ServedBundle(tmp_path / "app" / "model" / "seg_student").labels == {"tumour": 1}


def test_a_new_operating_point_is_served(checkpoint, tmp_path):
    main(["label_app", str(tmp_path / "app"), "--segmentation", str(checkpoint)])
    served = ServedBundle(tmp_path / "app" / "model" / "seg_student")
    before = served.predictor("cpu")
    assert served.predictor("cpu") is before
    point = {"score": "max", "threshold": 0.7, "specificity": 0.9, "sensitivity": 0.9, "measured_on": "slices"}
    add_settings(served.checkpoint, {"operating_point": point})
    assert "0.7" in " ".join(served.predictor("cpu").rules)
    assert "0.7" not in " ".join(before.rules)


@pytest.mark.parametrize(("activation", "channels"), [("softmax", 4), ("sigmoid", 3)])
def test_several_classes_are_named_where_monai_label_reads_them(activation, channels, tmp_path):
    model = classes_student(tmp_path / "run", activation)
    assert main(["label_app", str(tmp_path / "app"), "--segmentation", str(model)]) == 0
    bundle = tmp_path / "app" / "model" / "seg_student"
    assert ServedBundle(bundle).labels == {name: index for index, name in enumerate(NAMES, 1)}
    content = json.loads((bundle / "configs" / "metadata.json").read_text())
    pred = content["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "background", "1": NAMES[0], "2": NAMES[1], "3": NAMES[2]}
    assert pred["num_channels"] == channels
    assert "3 pituitary" in content["label_classes"]
