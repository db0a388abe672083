"""The command that lists taps: configs of all kinds, shapes, what is printed, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from volumes import write_volumes

from monai_kd.__main__ import main
from monai_kd.taps import configured_network

BUNDLE = Path(__file__).parents[1] / "bundles" / "seg_student" / "configs"
UNET = {"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1, "features": [4, 4, 4, 4, 4, 4]}
CONV = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 1}
TRAIN = {
    **{"spatial_dims": 2, "in_channels": 2, "out_channels": 3, "image_size": 32, "width": "$2 * 2"},
    "network_def": {**UNET, "in_channels": "@in_channels", "features": "$[@width] * 6"},
    "teacher_def": {**CONV, "_mode_": "callable", "in_channels": 2},
    "learning_rate": 0.1,
}


def saved(folder: Path, content, name: str = "train.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def found(capsys, *arguments: str) -> dict:
    assert main(["taps", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json(tmp_path, capsys):
    printed = found(capsys, saved(tmp_path, TRAIN))
    assert (printed["network"], printed["input_shape"]) == ("BasicUNet", [2, 32, 32])
    rows = {row["path"]: row for row in printed["modules"]}
    assert rows["upcat_3"]["shape"] == [1, 4, 8, 8]
    assert rows["upcat_3"]["stride"] == [4, 4]
    assert rows["upcat_3"]["problem"] == ""
    assert rows["conv_0.conv_0.conv"]["parameters"] == 2 * 4 * 9 + 4


def test_table(tmp_path, capsys):
    assert main(["taps", saved(tmp_path, TRAIN)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "BasicUNet on an image of 2 × 32 × 32"
    (level,) = (line for line in lines if line.startswith("upcat_3 "))
    # 418: 4 to 2 channels by a transposed convolution, then 6 to 4 and 4 to 4, each with its normalisation.
    assert re.split(r"\s\s+", level) == ["upcat_3", "UpCat", "B × 4 × 8 × 8", "4", "418"]
    (inside,) = (line for line in lines if line.startswith("    upcat_3.convs.conv_0 "))
    assert inside.split()[1] == "Convolution"
    # One column a quantity.
    assert len({line.index("B ×") for line in lines if "B ×" in line}) == 1


@pytest.mark.parametrize(
    ("content", "arguments", "shape"),
    [
        ({"network_def": UNET}, ["--input_shape", "1,48,64"], [1, 48, 64]),
        ({"network_def": UNET, "image_size": 32}, [], [1, 32, 32]),
        ({"network_def": {**UNET, "spatial_dims": 3}, "image_size": 32}, [], [1, 32, 32, 32]),
        ({"network_def": {**UNET, "spatial_dims": 3}, "image_size": [32, 16, 16]}, [], [1, 32, 16, 16]),
        ({**TRAIN, "image_size": "$4 * 8"}, [], [2, 32, 32]),
        (TRAIN, ["--network", "teacher_def"], [2, 32, 32]),
    ],
)
def test_shape_of_the_image(content, arguments, shape, tmp_path, capsys):
    assert found(capsys, saved(tmp_path, content), *arguments)["input_shape"] == shape


def test_yaml(tmp_path, capsys):
    text = "image_size: 16\nnetwork_def:" + "".join(f"\n  {key}: {value}" for key, value in CONV.items())
    assert found(capsys, saved(tmp_path, text, "net.yaml"))["network"] == "Conv2d"


@pytest.mark.parametrize("together", [True, False])
def test_a_later_file_replaces_the_network(together, tmp_path, capsys):
    network = {**TRAIN["network_def"], "_target_": "BasicUNetPlusPlus"}
    student = {"network_def": network, "taps": {"d4": "upcat_3_1"}}
    files = [saved(tmp_path, TRAIN), saved(tmp_path, student, "student.json")]
    printed = found(capsys, *([",".join(files)] if together else files))
    assert printed["network"] == "BasicUNetPlusPlus"
    assert "upcat_3_1" in {row["path"] for row in printed["modules"]}


def test_the_bundle_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, shape = configured_network([BUNDLE / "train.json"])
    assert type(network).__name__ == "BasicUNet"
    assert shape[0] == 3


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "there is no file .*train.json"),
        ("{", [], "train.json is neither JSON nor YAML"),
        ("[1]", [], "train.json holds a list, not a config"),
        ({"model": 1}, [], "define no 'network_def', only model: give --network ID"),
        (TRAIN, ["--network", "netwrk"], "define no 'netwrk', only network_def, teacher_def: give --network ID"),
        (TRAIN, ["--network", "learning_rate"], "'learning_rate' in .*train.json is a float, not a network"),
        ({"network_def": UNET}, [], "the input shape of 'network_def' is not in "),
        (TRAIN, ["--input_shape", "3x64"], "--input_shape is '3x64': channels and spatial axes are needed"),
        (TRAIN, ["--input_shape", "3,0,64"], "--input_shape is '3,0,64'"),
        (TRAIN, ["--input_shape", "5,32,32"], "expected input.* to have 2 channels, but got 5"),
        (
            {"network_def": {**UNET, "in_channels": "@channels"}},
            [],
            "`@channels` is not defined .* give that train.json before it",
        ),
        ({"network_def": {"_target_": "BasicUNett"}}, [], "can't be built: .*BasicUNett"),
        ({"network_def": {**UNET, "norm": "nix"}, "image_size": 32}, [], "can't be built: "),
    ],
)
def test_one_line_for_what_is_wrong(content, arguments, message, tmp_path, capsys):
    file = str(tmp_path / "train.json") if content is None else saved(tmp_path, content)
    assert main(["taps", file, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line


def test_a_network_of_volumes_has_the_channels_of_the_data_list(tmp_path, capsys):
    write_volumes(tmp_path / "$set", count=1)
    files = [str(BUNDLE / name) for name in ("train.json", "volumes.json")]
    listed = found(capsys, *files, "--dataset_dir", str(tmp_path / "$set"), "--input_shape", "4,32,32,32")
    assert listed["network"] == "BasicUNet"
    (output,) = (row["shape"] for row in listed["modules"] if row["path"] == "final_conv")
    assert output[1:] == [3, 32, 32, 32]
    assert main(["taps", *files]) == 2
    assert "give the folder of a data set, --dataset_dir FOLDER" in capsys.readouterr().err
