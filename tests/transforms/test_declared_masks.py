"""Masks hold the values that were declared, or are refused by name."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from PIL import Image

from monai_kd.inference import SliceReader
from monai_kd.transforms import DeclaredMask, DeclaredMaskd


def mask(*values: float) -> torch.Tensor:
    return MetaTensor(torch.tensor([[values]], dtype=torch.float32), meta={"filename_or_obj": "/data/labels/7.png"})


@pytest.mark.parametrize(
    ("values", "stored", "wanted"),
    [
        (255, (0, 255, 255), (0, 1, 1)),
        (1, (0, 1, 0), (0, 1, 0)),
        (255, (0, 0, 0), (0, 0, 0)),  # no tumour
        (3, (3, 3, 3), (1, 1, 1)),  # no background
        (None, (0, 255, 0), (0, 1, 0)),
        (None, (0, 1, 1), (0, 1, 1)),
        (None, (0, -1, 0), (0, 1, 0)),
        (None, (0, 0, 0), (0, 0, 0)),
        (None, (7, 7, 7), (1, 1, 1)),
        ({1: 1, 2: 2, 4: 3}, (4, 2, 0), (3, 2, 0)),
        ({0: 0, 1: 2, 2: 1}, (0, 1, 2), (0, 2, 1)),
        ({1: 1, 2: 1, 255: 0}, (1, 2, 255), (1, 1, 0)),  # two classes as one, and one to be left out
        ({"1": 1, "2": 2}, (0, 1, 2), (0, 1, 2)),  # as JSON has it
    ],
)
def test_values_become_classes(values, stored, wanted):
    found = DeclaredMask(values)(mask(*stored))
    assert found.tolist() == [[list(map(float, wanted))]]
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "stored", "message"),
    [
        (255, (0, 1, 255), r"labels/7\.png: the mask holds 0, 1, 255, but 'mask_value' .* declares 0 and 255"),
        (
            1,
            (0, 255, 255),
            "holds 0, 255, but .* declares 0 and 1: store the mask with these values, or correct",
        ),
        (1, (0, 0.999999, 1), "holds 0, 0.999998987, 1, but"),  # not rounded in the message
        (1, (0, 1, float("nan")), "holds 0, 1, nan, but"),
        ({1: 1, 2: 2}, (0, 3, 1), "declares 0 and 1 and 2"),
        (None, (0, 1, 2), "holds 0, 1, 2, but a mask must hold 0 and one other value: keep the class to segment"),
        (None, (1, 2, 2), "holds 1, 2, but a mask must hold 0 and one other value"),
        (255, tuple(range(20)), "holds 20 values, 0, 1, 2, 3, 4, 5, 6, 7 …, but"),
    ],
)
def test_other_values_are_refused_by_name(values, stored, message):
    with pytest.raises(ValueError, match=message):
        DeclaredMask(values)(mask(*stored))


@pytest.mark.parametrize("values", ["tumour", 0.5, True, {1: "one"}, {0: 1}, 0, {"x": 1}, [1, 2]])
def test_declarations_that_are_none(values):
    with pytest.raises(ValueError, match="values"):
        DeclaredMask(values)


@given(
    arrays.arrays(np.int16, (1, 4, 5), elements=st.integers(-2, 6)),
    st.dictionaries(st.integers(-2, 6).filter(bool), st.integers(0, 9), max_size=5),
)
def test_any_mask_is_mapped_or_refused(array, values):
    # numpy's own sets and lookup
    known = {0: 0, **values}
    if set(np.unique(array).tolist()) <= known.keys():
        wanted = np.vectorize(known.__getitem__)(array)
        np.testing.assert_array_equal(DeclaredMask(values)(torch.as_tensor(array)).numpy(), wanted)
    else:
        with pytest.raises(ValueError, match="the mask holds"):
            DeclaredMask(values)(torch.as_tensor(array))


def test_a_mask_saved_as_jpeg(tmp_path):
    disc = (np.hypot(*np.mgrid[-32:32, -32:32]) < 11).astype(np.uint8) * 255
    Image.fromarray(disc).save(tmp_path / "m.png")
    Image.fromarray(disc).save(tmp_path / "m.jpg", quality=75)
    read = Compose(
        [
            LoadImaged("label", reader=SliceReader, constant=True, ensure_channel_first=True),
            DeclaredMaskd("label", values=255),
        ]
    )
    assert read({"label": str(tmp_path / "m.png")})["label"].sum() == (disc > 0).sum()
    with pytest.raises(RuntimeError) as caught:
        read({"label": str(tmp_path / "m.jpg")})
    reason = str(caught.value.__cause__)
    assert reason.startswith(f"{tmp_path / 'm.jpg'}: the mask holds ")
    assert reason.endswith("JPEG changes values: use PNG or NIfTI.")


def test_a_real_label_map(tmp_path):
    path = Path(__file__).resolve().parents[2].parent / "shared" / "volumes" / "brain1_label.nii.gz"
    if not path.is_file():
        pytest.skip("no real volumes here")
    load = LoadImaged("label", reader=SliceReader, constant=True, ensure_channel_first=True)
    label = load({"label": str(path)})["label"]
    assert torch.equal(DeclaredMask(1)(label), label)
    stored = nib.load(path)
    data = np.asarray(stored.dataobj).copy()
    data[0, 0, -1] = 2  # one voxel of another class, in a slice without a tumour
    nib.save(nib.Nifti1Image(data, stored.affine), tmp_path / "two.nii.gz")
    with pytest.raises(ValueError, match=r"two\.nii\.gz: the mask holds 0, 1, 2"):
        DeclaredMask(None)(load({"label": str(tmp_path / "two.nii.gz")})["label"])
