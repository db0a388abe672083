"""metadata.json of every bundle, checked without the internet that MONAI's verify_metadata needs."""

import json
from importlib.metadata import version

import pytest
from tiny import BUNDLES

from monai_kd import __version__
from monai_kd.metrics.classes import CLASS_METRICS
from monai_kd.metrics.masks import MASK_METRICS

REQUIRED = {
    **{"schema": str, "version": str, "changelog": dict, "monai_version": str, "pytorch_version": str, "task": str},
    **{"numpy_version": str, "required_packages_version": dict, "description": str, "authors": str, "copyright": str},
    **{"network_data_format": dict, "name": str, "intended_use": str, "data_source": str, "references": list},
}
TENSOR = {
    **{"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str, "value_range": list},
    **{"is_patch_data": bool, "channel_def": dict},
}
FOLDERS = sorted(path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def metadata(request) -> dict:
    return json.loads((request.param / "configs" / "metadata.json").read_text(encoding="utf-8"))


def test_there_are_bundles():
    assert {"seg_student", "seg_teacher", "cls_student", "cls_teacher"} <= {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_of_a_bundle(folder):
    configs = [f"configs/{name}.json" for name in ("metadata", "train", "evaluate", "inference", "multi_gpu_train")]
    for name in [*configs, "configs/logging.conf", "docs/README.md", "docs/data_license.txt", "LICENSE"]:
        assert (folder / name).stat().st_size > 0, name


def test_required_fields(metadata):
    for name, kind in REQUIRED.items():
        assert isinstance(metadata.get(name), kind), name
        assert metadata[name], f"{name} is empty"
    assert metadata["schema"].endswith("/meta_schema_20240725.json")
    assert "optional_packages_version" not in metadata


def test_every_version_has_its_change(metadata):
    assert metadata["version"] in metadata["changelog"]
    assert all(isinstance(change, str) and change for change in metadata["changelog"].values())


def test_versions_are_numbers_of_packages(metadata):
    assert metadata["required_packages_version"]["monai_kd"] == __version__
    for name in metadata["required_packages_version"]:
        assert version(name)


def test_metrics_are_those_that_an_evaluation_reports(metadata):
    known = {*CLASS_METRICS, *(f"mean_{name}" for name in MASK_METRICS), "slices", "patients"}
    # `of`: the numbers are those of another network, see docs/experiments/release.py.
    values = {name: value for name, value in metadata["eval_metrics"].items() if name != "of"}
    assert values.keys() <= known
    assert all(isinstance(value, int | float) for value in values.values())
    assert {"slices", "patients"} <= metadata["eval_metrics"].keys()


# By the template of MONAI's model zoo, docs/readme_template.md; of the optional ones, those that are used.
HEADINGS = ["Model Description", "Data", "Performance", "Additional Usage Steps", "System Configuration", "Limitations"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_page_has_the_headings_of_the_zoo(folder):
    text = (folder / "docs" / "README.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    found = [line for line in lines if line.startswith(("## ", "### "))]
    expected = ["### **Authors**", "### **Tags**", *(f"## **{name}**" for name in HEADINGS)]
    assert found == [*expected, "## **Citation Info**", "## **References**"]
    assert "#### **Preprocessing**" in lines
    # No file of a bundle is above the zoo's limit, and none but text.
    assert all(path.stat().st_size < 2**20 for path in folder.glob("docs/*"))


def test_tensors(metadata):
    formats = metadata["network_data_format"]
    # The names that MONAI's engines and MONAI Label look for.
    assert next(iter(formats["inputs"])) == "image"
    assert next(iter(formats["outputs"])) == "pred"
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        for name, kind in TENSOR.items():
            assert isinstance(tensor.get(name), kind), name
        # As text, verify_net_in_out would fail on them.
        assert all(type(length) is int for length in tensor["spatial_shape"])
        assert all(number.isdecimal() and isinstance(text, str) for number, text in tensor["channel_def"].items())
    image = formats["inputs"]["image"]
    assert list(image["channel_def"]) == [str(number) for number in range(image["num_channels"])]


def test_not_a_medical_device(metadata):
    assert "not a medical device" in metadata["intended_use"].lower()
