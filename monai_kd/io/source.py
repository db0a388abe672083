"""An image file, read once, with all that is used of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import ensure_tuple

from data_prep.limits import MAX_PIXELS, TooLarge
from data_prep.regular import check_regular
from data_prep.values import fault_of

from .dicom import dicom_slices, read_slices
from .dicom_frames import file_and_volume
from .dicom_geometry import uneven_positions, unplaced
from .dicom_kind import kind_doubts, other_kind
from .kinds import kind_of
from .nifti import header_bytes, read_nifti
from .pictures import read_picture
from .unreadable import NO_MEMORY, UnreadableImage

__all__ = ["SourceImage", "read_source"]


THICKER = 2  # by how much voxels are longer along the slices than within them, at least, in a volume that is doubted


@dataclass(frozen=True, eq=False)
class SourceImage:
    """A slice or a volume as its file stores it, and what is needed to write masks and overlays for it.

    It can be pickled. Its representation shows neither pixels nor headers, which hold a patient's data.

    Attributes:
        pixels: (X, Y) or (X, Y, slices), X = column and Y = row of a picture; with channels see ``channel_dim``.
            Shared by all users: to be copied before it is changed.
        affine: 4 × 4, indices to RAS+ in mm.
        spacing: (3,), mm, NaN where it is not known.
        paths: the file, the files of a DICOM series or of the channels, or a folder with one series.
        kind: ``"nifti"``, ``"picture"``, ``"dicom"`` or ``"mat"``.
        channel_dim: the axis of channels, if there is one.
        nifti_header: nibabel's header of a NIfTI file.
        datasets: pydicom's data sets of DICOM slices without their pixels, in the order of ``pixels``.
        assumed: what had to be assumed of its position, as a sentence; else empty.
        positions: (slices,), mm along the normal of unevenly spaced slices; else ``None``.
        warnings: reasons against using the image, as sentences without header values.
        unfit: whether its header says that it is no T1-weighted image of a head, see `other_kind`.
        of_head: whether it was read as one of a head; otherwise neither its header nor its shape is doubted.
    """

    pixels: np.ndarray = field(repr=False)
    affine: np.ndarray = field(repr=False)
    spacing: np.ndarray = field(repr=False)
    paths: tuple[Path, ...]
    kind: str
    channel_dim: int | None = None
    nifti_header: Any = field(default=None, repr=False)
    datasets: tuple[Any, ...] = field(default=(), repr=False)
    assumed: str = ""
    positions: np.ndarray | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    unfit: bool = False
    of_head: bool = True

    @property
    def first_channel(self) -> np.ndarray:
        """(X, Y) or (X, Y, slices)."""
        return self.pixels if self.channel_dim is None else self.pixels.take(0, self.channel_dim)

    @property
    def orientation_known(self) -> bool:
        """Whether the file says how its slices lie in the patient, so that left and right can be named.

        Pictures and ``.mat`` files do not, nor DICOM slices without a position. Nor does NIfTI whose affine has no
        code, or its origin at 0, 0, 0: that is how converters, `data_prep` among them, write slices whose place they
        do not know.
        """
        if self.kind == "dicom":
            return not self.assumed
        if self.kind != "nifti" or self.nifti_header is None:
            return False
        return _coded(self.nifti_header) and bool(self.affine[:3, 3].any())

    def meta(self) -> dict[str, Any]:
        """MONAI's metadata, see `read_image`; a new dictionary with arrays of its own."""
        shape = list(self.pixels.shape)
        if self.channel_dim is not None:
            del shape[self.channel_dim]
        meta = {
            "filename_or_obj": str(self.paths[0]),
            "affine": self.affine.copy(),
            "original_affine": self.affine.copy(),
            "spatial_shape": np.asarray(shape),
            "original_channel_dim": float("nan") if self.channel_dim is None else self.channel_dim,
            "space": "RAS",
            "spacing": self.spacing.copy(),
        }
        if self.positions is not None:
            meta["slice_positions"] = self.positions.copy()
        if self.unfit:
            meta["unfit"] = np.ones(1)
        if not self.of_head:
            meta["of_head"] = np.zeros(1)
        if self.nifti_header is not None:
            meta["nifti_header"] = header_bytes(self.nifti_header)
        return meta


def read_source(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    constant: bool = False,
    max_pixels: int = MAX_PIXELS,
    channels: bool = False,
    of_head: bool = True,
) -> SourceImage:
    """Read a slice or a volume, with its geometry and header; each file is opened once.

    Before that, the mark of a file without a known suffix and the series of the files of a folder are read from their
    headers.

    Args:
        paths: a file; a folder with one DICOM series; the files of one DICOM series; or a volume of an enhanced DICOM
            object, such as ``exam.dcm/phase-2``, see `monai_kd.io.dicom_frames.file_and_volume`.
        constant: whether every pixel may have the same value, as in a mask without a tumour.
        max_pixels: how many there may be, in all slices together; sizes are read from headers, before pixels, and
            counted where files are packed.
        channels: whether a NIfTI file may have a fourth axis, of channels.
        of_head: whether it is to be a T1-weighted image of a head. Otherwise DICOM files may be of any modality, and
            their sequence, contrast agent and part of the body are not looked at.

    Raises:
        UnreadableImage: the file can't be used; the message says why.
    """
    files = tuple(Path(path) for path in ensure_tuple(paths))
    try:
        source = replace(_read(files, max_pixels, channels, of_head), of_head=of_head)
        fault = fault_of(source.pixels, constant)
    except TooLarge as error:
        raise UnreadableImage(str(error)) from None
    except MemoryError:
        raise UnreadableImage(NO_MEMORY) from None
    if fault is not None:
        raise UnreadableImage(fault)
    if min(source.pixels.shape[:2]) < 2:
        raise UnreadableImage(f"the image has the size {source.pixels.shape}: a line is no slice")
    return source


def _read(paths: tuple[Path, ...], max_pixels: int, channels: bool, of_head: bool) -> SourceImage:
    kind = kind_of(paths[0])
    for path, _ in map(file_and_volume, paths):
        if not (kind == "dicom" and path.is_dir()):
            try:
                size = check_regular(path)
            except OSError as error:
                raise UnreadableImage(error.strerror or type(error).__name__) from None
            if size == 0:
                raise UnreadableImage("the file is empty")
    if kind == "nifti":
        image, affine, spacing, header = read_nifti(paths[0], max_pixels, channels)
        return SourceImage(
            *(image, affine, spacing, paths, kind, 3 if image.ndim > 3 else None, header),
            assumed=_unknown(affine, header),
            warnings=_thick_elsewhere(image, spacing),
        )
    if kind == "picture":
        # A picture is upright and has no size in mm. In RAS terms its columns run to the left, its rows to the back.
        geometry = np.diag([-1.0, -1.0, 1.0, 1.0]), np.full(3, np.nan)
        return SourceImage(read_picture(paths[0], max_pixels), *geometry, paths, kind)
    if kind == "dicom":
        slices = dicom_slices(paths, max_pixels, any_modality=not of_head)
        image, affine, spacing = read_slices(slices)
        positions, other = uneven_positions(slices), other_kind(slices[0]) if of_head else ""
        doubts = kind_doubts(slices[0]) if of_head else ()
        gaps = "" if positions is None else _uneven(positions)
        copies = f"{slices[0].copies} files are copies of others and left out" if slices[0].copies else ""
        return SourceImage(
            *(image, affine, spacing, paths, kind),
            datasets=tuple(slices),
            assumed=_assumed(unplaced(slices)),
            positions=positions,
            warnings=tuple(filter(None, (other, *doubts, gaps, copies))),
            unfit=bool(other),
        )
    if kind == "mat":
        return SourceImage(*_mat(paths[0], max_pixels), paths, kind)
    raise UnreadableImage("it is none of NIfTI, PNG, JPEG, DICOM, .mat")


def _coded(header: Any) -> bool:
    return any(int(header[name]) > 0 for name in ("sform_code", "qform_code"))


def _unknown(affine: np.ndarray, header: Any) -> str:
    """What a NIfTI header leaves to be assumed, or names only because its writer did not know it."""
    sizes = " x ".join(f"{size:g}" for size in np.linalg.norm(affine[:3, :3], axis=0))
    if not _coded(header):
        return f"the header has no orientation (qform, sform): taken as an axial slice with pixels of {sizes} mm"
    if np.array_equal(affine, np.eye(4)):
        return "the affine is the identity, as where no pixel size was known: taken as pixels of 1 x 1 x 1 mm"
    return ""


def _thick_elsewhere(image: np.ndarray, spacing: np.ndarray) -> tuple[str, ...]:
    """A warning where the slices of a volume seem to lie along another axis than the third one."""
    thick = int(spacing[:2].argmax())
    if image.shape[2:3] <= (1,) or spacing[thick] < THICKER * spacing[2]:
        return ()
    return (
        f"voxels are {spacing[thick]:g} mm long along axis {thick + 1} and {spacing[2]:g} mm along axis 3: the slices "
        f"seem to lie along axis {thick + 1}, and were taken along axis 3; reorder the axes of the file",
    )


def _assumed(missing: str) -> str:
    return f"the header has no {missing}: taken as an axial slice at the origin" if missing else ""


def _uneven(positions: np.ndarray) -> str:
    gaps = np.diff(positions)
    return (
        f"the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart: some may be missing; sizes follow their "
        f"positions, and the file of the mask has {np.median(gaps):.2f} mm everywhere"
    )


def _mat(path: Path, max_pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Raw-file readers are of no use to a server that gets NIfTI.
    from data_prep import matfile
    from data_prep.child import CannotStart, ChildDied, call
    from data_prep.writers import SPACING

    try:
        # In another process: damaged HDF5 files make the library end the one that reads them.
        image = call(matfile.image_of, (path.absolute(), max_pixels))
    except matfile.BadSlice as bad:
        raise UnreadableImage(bad.reason) from None
    except ChildDied as error:
        raise UnreadableImage(f"it ended the process that read it ({error}): damaged, or too little memory") from None
    except CannotStart as error:
        raise UnreadableImage(f"{error}, which .mat files are read in") from None
    # As data_prep converts it.
    return image.T[..., None], np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]), np.asarray(SPACING)
