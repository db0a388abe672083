"""The inference configs of the bundles, as MONAI's commands and a user's shell use them."""

import csv
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, create_workflow, onnx_export, verify_net_in_out
from monai.transforms import SaveImaged
from slices import grey, pattern, write_dicom
from tiny import BUNDLES, NETWORKS, SEGMENTATION, config, described, save, untrained

from monai_kd.bundle import trained_settings
from monai_kd.bundle.metadata import of_weights
from monai_kd.config import build_network

IDS = ("bundle_root", "device", "network_def", "inferer", "preprocessing", "postprocessing", "handlers", "evaluator")


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request, tmp_path_factory) -> tuple[str, Path]:
    """A bundle, and a checkpoint of it as training leaves it: with statistics of its own, settings beside it."""
    torch.manual_seed(0)
    net = build_network(NETWORKS[request.param]).train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 3, 32, 32))
    return request.param, save(tmp_path_factory.mktemp(request.param), net.state_dict(), **described(request.param))


def meta(bundle: str) -> str:
    return str(BUNDLES / bundle / "configs" / "metadata.json")


@pytest.mark.parametrize("bundle", NETWORKS)
def test_can_be_looked_at_without_input_and_checkpoint(bundle, tmp_path):
    # small, or the teacher's Vision Transformer takes its time
    workflow = create_workflow(
        config_file=config(bundle, "inference"),
        workflow_type="infer",
        network_def=NETWORKS[bundle],
        checkpoint=str(tmp_path / "none.pt"),
    )
    assert workflow.check_properties() == []
    for name in IDS:
        assert workflow.parser.get_parsed_content(name) is not None
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert "give --input FILE_OR_FOLDER" in said(caught.value)


@pytest.mark.parametrize("trained", SEGMENTATION, indirect=True)
def test_segments_with_the_settings_of_the_checkpoint(trained, disc_dataset, tmp_path):
    bundle, checkpoint = trained
    workflow = create_workflow(
        config_file=config(bundle, "inference"),
        workflow_type="infer",
        input=str(disc_dataset / "images"),
        output_dir=str(tmp_path),
        checkpoint=str(checkpoint),
        device="cpu",
        overlays=False,
        amp=True,
        logging_file=False,
    )
    workflow.run()
    with open(tmp_path / "findings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok"] * 12
    assert len({row["highest_probability"] for row in rows}) > 1
    assert len(list(tmp_path.glob("*_mask.nii.gz"))) == 12


def test_usable_series_of_a_folder_are_used_and_others_are_rows_with_reasons(tmp_path):
    """An export of a scanner: a series, one with a gap, one of two echoes, a mosaic, and a file that is cut off."""
    folder = tmp_path / "in"
    for number in range(4):
        write_dicom(folder / f"a{number}.dcm", grey(pattern()), (0, 0, 3.0 * number), series="1.2.1")
        place = (0, 0, 3.0 * number + 3 * (number > 1))
        write_dicom(folder / f"b{number}.dcm", grey(pattern()), place, series="1.2.2")
        for echo in (1, 2):
            header = {"EchoNumbers": echo, "EchoTime": 10.0 * echo}
            write_dicom(
                folder / f"c{echo}{number}.dcm", grey(pattern()), (0, 0, 3.0 * number), series="1.2.3", **header
            )
    write_dicom(folder / "d.dcm", grey(pattern()), series="1.2.4", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    whole = write_dicom(folder / "e.dcm", grey(pattern()), series="1.2.5").read_bytes()
    (folder / "e.dcm").write_bytes(whole[:-100])
    workflow = create_workflow(
        config_file=config("seg_student", "inference"),
        workflow_type="infer",
        **{"input": str(folder), "output_dir": str(tmp_path / "out"), "overlays": False, "logging_file": False},
        **{"checkpoint": str(untrained("seg_student", tmp_path)), "device": "cpu"},
    )
    workflow.run()
    with open(tmp_path / "out" / "findings.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert [(row["status"], row["slices"]) for row in rows.values()] == [
        *([("ok", "4")] * 2),
        *([("failed", "")] * 3),
    ]
    whole, gap, echoes, mosaic, cut = rows.values()
    assert "some may be missing" in gap["warning"]
    assert whole["warning"] == ""
    assert "several slices at one position (echoes" in echoes["reason"]
    assert "Siemens mosaic" in mosaic["reason"]
    assert "truncated" in cut["reason"]


def said(error: BaseException | None) -> str:
    """The messages of an error and of all that led to it."""
    return "" if error is None else f"{error}\n{said(error.__cause__)}"


@pytest.mark.parametrize("trained", SEGMENTATION, indirect=True)
def test_a_checkpoint_that_does_not_fit_is_refused(trained, disc_dataset, tmp_path):
    bundle, checkpoint = trained
    values = {"input": str(disc_dataset / "images"), "output_dir": str(tmp_path), "logging_file": False}
    wider = {**NETWORKS[bundle], "features": [4, 4, 8, 8, 16, 4]}
    for wrong, message in (
        ({"checkpoint": str(checkpoint), "network_def": wider}, "does not fit"),
        (
            {"checkpoint": str(save(tmp_path / "w", torch.load(checkpoint), network_def=wider, image_size=32))},
            "not fit",
        ),
        ({"checkpoint": str(tmp_path / "absent.pt")}, "there is no checkpoint"),
        ({"checkpoint": meta(bundle)}, "can't be read as a checkpoint"),
    ):
        workflow = create_workflow(config_file=config(bundle, "inference"), workflow_type="infer", **values | wrong)
        with pytest.raises(RuntimeError) as caught:
            workflow.run()
        assert message in said(caught.value)
        assert not list(tmp_path.glob("*_mask*"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"treshold": 0.3}, "--threshold"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"features": 64}, "unknown override: --features"),
    ],
)
def test_wrong_values_are_refused_at_once(wrong, message):
    with pytest.raises(RuntimeError) as caught:
        create_workflow(config_file=config("seg_student", "inference"), workflow_type="infer", **wrong)
    assert message in said(caught.value)


def test_verify_net_in_out(trained, tmp_path):
    bundle, checkpoint = trained
    metadata = of_weights(json.loads(Path(meta(bundle)).read_text()), trained_settings(checkpoint))
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(tmp_path / "metadata.json"),
        config_file=config(bundle, "inference"),
        device="cpu",
        checkpoint=str(checkpoint),
    )


def test_ckpt_export_gives_the_same_network(trained, tmp_path):
    bundle, checkpoint = trained
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(checkpoint),
        meta_file=meta(bundle),
        config_file=config(bundle, "inference"),
        checkpoint=str(checkpoint),  # whose settings describe the network
    )
    exported = torch.jit.load(tmp_path / "model.ts").eval()
    net = build_network(NETWORKS[bundle]).eval()
    net.load_state_dict(torch.load(checkpoint))
    image = torch.randn(2, 3, 48, 32)
    with torch.no_grad():
        expected = net(image)
        assert expected.std() > 1e-3
        torch.testing.assert_close(exported(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", ["seg_student", "cls_student"], indirect=True)
def test_onnx_export_gives_the_same_network(trained, tmp_path):
    bundle, checkpoint = trained
    onnx_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.onnx"),
        ckpt_file=str(checkpoint),
        meta_file=meta(bundle),
        config_file=config(bundle, "inference"),
        input_shape=[1, 3, 32, 32],
        checkpoint=str(checkpoint),
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    net = build_network(NETWORKS[bundle]).eval()
    net.load_state_dict(torch.load(checkpoint))
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = net(image)
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("trained", ["seg_student"], indirect=True)
def test_from_the_shell(trained, tmp_path):
    bundle, checkpoint = trained
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no picture")
    command = [sys.executable, "-m", "monai.bundle", "run", "inferring", "--config_file", *config(bundle, "inference")]
    values = ["--input", str(tmp_path / "in"), "--output_dir", str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    # From another working directory, where `bundle_root` would be wrong if it was relative.
    done = subprocess.run(command + values, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "the file could not be segmented" in done.stderr.splitlines()[-1]
    assert (done.stdout + done.stderr).count("the file could not be segmented") == 1
    assert "a.png: FAILED" in done.stderr


@pytest.mark.parametrize("shape", [(40, 48), (40, 48, 1), (40, 48, 3)])
def test_as_monai_label_takes_it_apart(tmp_path, shape):
    # It sets bundle_root, asks LoadImaged for metadata too, leaves SaveImaged out, and wants the mask as the file is.
    parser = ConfigParser()
    parser.read_config(config("seg_student", "inference"))
    checkpoint = untrained("seg_student", tmp_path / "model")
    parser.update({"bundle_root": str(BUNDLES / "seg_student"), "checkpoint": str(checkpoint)})
    before, after = (parser.get_parsed_content(name).transforms for name in ("preprocessing", "postprocessing"))
    before[0]._loader.image_only = False
    affine = np.array([[0.4, 0, 0, 3], [0, 0.5, 0, 4], [0, 0, 6, 5], [0, 0, 0, 1]])
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).integers(0, 900, shape).astype(np.int16), affine), tmp_path / "a.nii"
    )
    data = {"image": str(tmp_path / "a.nii"), "model": "seg_student"}
    for transform in before:
        data = transform(data)
    net = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], net)[0]
    for transform in after:
        if not isinstance(transform, SaveImaged):
            data = transform(data)
    assert data["pred"].shape == (1, *shape)
    assert data["pred"].dtype == torch.uint8
    np.testing.assert_allclose(data["pred"].affine, affine, atol=1e-6)
    assert tuple(data["image"].meta["spatial_shape"]) == shape
    np.testing.assert_allclose(data["image"].meta["original_affine"], affine)


@pytest.mark.parametrize("bundle", NETWORKS)
def test_a_limit_on_pixels_is_an_option(bundle, disc_dataset, tmp_path):
    image = sorted((disc_dataset / "images").iterdir())[0]
    pixels = int(np.prod(nib.load(image).shape))
    checkpoint, found = str(untrained(bundle, tmp_path / bundle)), []
    for limit in (pixels, pixels - 1):
        folder = tmp_path / str(limit)
        given = {"input": str(image), "checkpoint": checkpoint, "output_dir": str(folder), "max_pixels": limit}
        workflow = create_workflow(config_file=config(bundle, "inference"), workflow_type="infer", **given)
        # The command fails when it could use no file.
        with nullcontext() if limit == pixels else pytest.raises((RuntimeError, ValueError)):
            workflow.run()
        (table,) = (each for each in folder.glob("*.csv") if each.name != "lesions.csv")
        with table.open(newline="") as file:
            (row,) = csv.DictReader(file)
        found.append((row["status"], f"more than the {pixels - 1:,} that are read" in row["reason"]))
    assert found == [("ok", False), ("failed", True)]
