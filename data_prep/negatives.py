"""Cut volumes of heads without a tumour into slices, as negatives to train with."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.dataset import DATALIST, write_datalist
from data_prep.writers import nifti_gz_bytes, write_file

VIEWS = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis of an array in the order right, anterior, superior that a view looks along."""
THICKNESS_MM = 5.0
STEP_MM = 6.0
FINEST_MM = 2.0
_HIGHEST = 99.9  # percentile: a few bright voxels of fat or vessels would make all else dark
_HEAD = 0.15
_LEAST_HEAD = 0.06


class NegativesError(Exception):
    """The volumes can't be cut into slices, or the folder can't be written."""


def write_negatives(
    dst: str | Path,
    volumes: Sequence[str | Path],
    views: Sequence[str] = tuple(VIEWS),
    thickness_mm: float = THICKNESS_MM,
    step_mm: float = STEP_MM,
    inverted: bool = False,
    progress: bool = True,
) -> Path:
    """Write a data set folder of slices that show no tumour, for ``negatives_dir`` of the trainings.

    Each slice is the mean over planes of a volume that together are as thick as a slice of a scanner, upright: the nose
    or the top of the head is up. The highest 0.1 % of the values of a volume are clipped. Views in which a pixel would
    be larger than 2 mm are left out, as are slices that show little of the head: less than 6 % of their pixels are
    above 15 % of the highest value. All volumes are read once before anything is written.

    Args:
        dst: folder, made if needed; must be empty.
        volumes: NIfTI files with three dimensions, of people without a tumour. A file is a patient, named after it.
        views: ``axial``, ``coronal`` and ``sagittal``, or some of them.
        thickness_mm: of a slice; at least one plane.
        step_mm: from slice to slice; at least one plane.
        inverted: whether each slice is written once more with the grey values of the head inverted, somewhat like
            another sequence.
        progress: show a progress bar on stderr.

    Returns:
        The data list.

    Raises:
        NegativesError: a file is no NIfTI volume, two have the same name, no slice is left of one, the folder is not
            empty, or a value can't be used.
        WriteError: the disk is full, or the folder can't be written to.
    """
    dst = Path(dst).expanduser()
    paths = [Path(path).expanduser() for path in volumes]
    views = tuple(dict.fromkeys(views))
    if unknown := [view for view in views if view not in VIEWS]:
        raise NegativesError(f"there is no view {unknown[0]}; the views are {', '.join(VIEWS)}")
    if not (0 < thickness_mm < math.inf and 0 < step_mm < math.inf):
        raise NegativesError(f"thickness and step must be numbers of mm above 0, got {thickness_mm:g} and {step_mm:g}")
    if double := [name for name, count in Counter(map(_name, paths)).items() if count > 1]:
        raise NegativesError(f"two volumes are named {double[0]}; a volume is a patient, so rename one")
    if dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise NegativesError(f"{dst} is not an empty folder; give a new one")
    for path in paths:
        values, spacing = _upright(path)
        if next(_slices(values, spacing, views, thickness_mm, step_mm), None) is None:
            raise NegativesError(
                f"{path}: no slice is left; in the views {', '.join(views)}, pixels are larger than {FINEST_MM:g} mm, "
                f"or show little of a head. Voxels are {' x '.join(f'{each:.3g}' for each in spacing)} mm. Choose "
                "other views, or leave the volume out"
            )
    (dst / "images").mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    for path in tqdm(paths, desc="volumes", disable=None if progress else True):
        patient = _name(path)
        for name, image, size in _slices(*_upright(path), views, thickness_mm, step_mm, inverted):
            source = f"{patient}_{name}"
            file = f"images/{source}.nii.gz"
            whole = np.rint(image * np.iinfo(np.uint16).max).astype(np.uint16)
            write_file(dst / file, nifti_gz_bytes(whole, spacing=size))
            own = {"image": file, "tumour": False, "patient": patient, "group": patient, "fold": 0, "source": source}
            entries.append(own)
    top = {
        "name": "slices without a tumour",
        "description": "Slices cut from volumes of heads without a tumour, see data_prep negatives.",
        **{"synthetic": False, "labels": {"1": "no tumour"}, "numTraining": len(entries)},
    }
    write_datalist(dst / DATALIST, top, entries)
    return dst / DATALIST


def invert(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grey values of the head inverted, those of the air around it kept; from 0 to 1, (rows, cols).

    Example:
        >>> invert(np.array([[0.0, 0.1, 0.3, 1.0]])).round(2).tolist()
        [[0.0, 0.1, 0.85, 0.15]]
    """
    return np.where(image > _HEAD, 1 + _HEAD - image, image)


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _upright(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Values from 0 to 1 in the order left, posterior, inferior, and the size of a voxel in mm."""
    if path.is_dir():
        raise NegativesError(f"{path} is a folder; give its files, such as {path}/*.nii.gz")
    try:
        if path.suffix == ".gz":
            # nibabel stops behind the last voxel, and does not come to the checksum.
            with gzip.open(path) as file:
                while file.read(2**20):
                    pass
        loaded = nib.load(path)
        if not isinstance(loaded, nib.Nifti1Pair):
            raise NegativesError(f"{path} is no NIfTI file; convert it first, as with nib.save of nibabel")
        given = nib.as_closest_canonical(loaded)
        if given.get_data_dtype().kind not in "buif":
            raise NegativesError(f"{path} holds colours or complex numbers, not grey values")
        values = np.asarray(given.dataobj, dtype=np.float32)
        # By the number of the unit: nibabel has no name for one that the standard leaves undefined.
        scale = {1: 1000.0, 3: 0.001}.get(int(given.header["xyzt_units"]) & 7, 1.0)
        spacing = voxel_sizes(given.affine) * scale
    except FileNotFoundError:
        raise NegativesError(f"there is no file {path}") from None
    except (
        *(nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, nib.orientations.OrientationError),
        *(zlib.error, np.linalg.LinAlgError, EOFError, OSError, ValueError),
    ) as error:
        raise NegativesError(f"{path} is no NIfTI file, or is damaged ({error})") from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise NegativesError(f"{path} has the shape {values.shape}; a volume has three dimensions")
    if not np.isfinite(values).all():
        raise NegativesError(f"{path} has values that are not finite")
    low, high = values.min(), np.percentile(values, _HIGHEST)
    if low == high:
        raise NegativesError(f"{path} has one value only, or nearly so")
    return ((values[::-1, ::-1, ::-1] - low) / (high - low)).clip(0, 1), spacing


def _slices(
    values: NDArray[np.float32],
    spacing: NDArray[np.float64],
    views: Sequence[str],
    thickness_mm: float,
    step_mm: float,
    inverted: bool = False,
) -> Iterator[tuple[str, NDArray[np.float32], tuple[float, float, float]]]:
    """Name, values, (rows, cols), and size of a column, a row and the slice in mm, of each slice."""
    for view in views:
        axis = VIEWS[view]
        column, row = (float(each) for each in np.delete(spacing, axis))
        planes = np.moveaxis(values, axis, 2)
        thick, step = (max(1, round(each / spacing[axis])) for each in (thickness_mm, step_mm))
        for first in range(0, planes.shape[2] - thick + 1, step) if max(column, row) <= FINEST_MM else ():
            image = planes[:, :, first : first + thick].mean(axis=2).T
            if (image > _HEAD).mean() >= _LEAST_HEAD:
                size = column, row, thick * float(spacing[axis])
                yield f"{view}_{first:03}", image, size
                if inverted:
                    yield f"{view}_{first:03}_inverted", invert(image), size
