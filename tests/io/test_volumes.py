"""Images of several channels: from a file each, from one file, and what is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from monai_kd.io import UnreadableImage, VolumeReader, read_volume

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def channels(count: int = 3, size: tuple[int, ...] = (6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (count, *size)).astype(np.int16)


def write(folder, image: np.ndarray, affines=None) -> list[str]:
    """A file for each channel."""
    paths = [str(folder / f"c{number}.nii.gz") for number in range(len(image))]
    for number, (path, channel) in enumerate(zip(paths, image, strict=True)):
        nib.save(nib.Nifti1Image(channel, AFFINE if affines is None else affines[number]), path)
    return paths


@pytest.mark.parametrize("size", [(6, 5, 4), (6, 5)])
def test_files_of_channels_become_one_image(tmp_path, size):
    image = channels(size=size)
    found, meta = read_volume(write(tmp_path, image), channels=3)
    np.testing.assert_array_equal(found, image)
    np.testing.assert_array_equal(meta["affine"], AFFINE)
    assert (meta["original_channel_dim"], list(meta["spacing"])) == (0, [1, 1, 2])


def test_one_file_of_four_axes_is_the_same(tmp_path):
    image = channels()
    nib.save(nib.Nifti1Image(np.moveaxis(image, 0, -1), AFFINE), tmp_path / "all.nii.gz")
    found, meta = read_volume(tmp_path / "all.nii.gz", channels=3)
    np.testing.assert_array_equal(found, image)
    assert list(meta["spatial_shape"]) == [6, 5, 4]


def test_one_file_of_one_channel(tmp_path):
    (path,) = write(tmp_path, channels(1))
    assert read_volume(path)[0].shape == (1, 6, 5, 4)


def moved(by: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += by
    return affine


def test_rounded_affines_are_one_grid(tmp_path):
    read_volume(write(tmp_path, channels(2), [AFFINE, moved(0.05)]))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("moved", r"c1\.nii\.gz: channel 2 of 2: it lies up to 3 mm beside the first channel"),
        ("smaller", r"c1\.nii\.gz: channel 2 of 2: it has 6 × 5 × 3 pixels, and the first channel 6 × 5 × 4"),
        ("truncated", r"c1\.nii\.gz: channel 2 of 2: the file is truncated"),
        ("absent", r"c1\.nii\.gz: channel 2 of 2: No such file"),
        ("constant", r"c1\.nii\.gz: channel 2 of 2: the image is constant"),
        ("fewer", r"c0\.nii\.gz: the image has 2 channels, and 4 are needed"),
        ("stacks", r"c0\.nii\.gz: channel 1 of 2: the NIfTI image has 4 axes"),
        ("constant in one file", r"all\.nii\.gz: channel 2 of 2: the image is constant"),
    ],
)
def test_what_is_refused_names_the_file(tmp_path, fault, message):
    image = channels(2)
    if "constant" in fault:
        image[1] = 7
    paths: list[str] = write(tmp_path, image, [AFFINE, moved(3.0)] if fault == "moved" else None)
    second = tmp_path / "c1.nii.gz"
    if fault == "smaller":
        nib.save(nib.Nifti1Image(image[1, ..., :3], AFFINE), second)
    elif fault == "truncated":
        second.write_bytes(second.read_bytes()[:-20])
    elif fault == "absent":
        second.unlink()
    elif fault == "stacks":
        nib.save(nib.Nifti1Image(np.moveaxis(image, 0, -1), AFFINE), paths[0])
    elif fault == "constant in one file":
        paths = [str(tmp_path / "all.nii.gz")]
        nib.save(nib.Nifti1Image(np.moveaxis(image, 0, -1), AFFINE), paths[0])
    with pytest.raises(UnreadableImage, match=message) as caught:
        read_volume(paths, channels=4 if fault == "fewer" else None)
    assert str(tmp_path) not in caught.value.reason


def test_all_channels_together_have_the_limit(tmp_path):
    paths = write(tmp_path, channels(2))
    read_volume(paths, max_pixels=240)
    with pytest.raises(UnreadableImage, match="the image has 120 pixels, more than the 119"):
        read_volume(paths, max_pixels=239)


def test_a_fault_is_not_passed_on_to_another_reader(tmp_path):
    reader = VolumeReader(channels=2)
    assert reader.verify_suffix(["a.nii.gz", "b.png"])
    assert not reader.verify_suffix(["a.nii.gz", "b.txt"])
    assert reader.read("absent.nii.gz") == ("absent.nii.gz",)
    with pytest.raises(UnreadableImage, match=r"absent\.nii\.gz: No such file"):
        reader.get_data(("absent.nii.gz",))
