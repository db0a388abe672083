"""Masks as files, in the geometry of the file that was segmented."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
from matplotlib.colors import to_rgb
from monai.data import FolderLayoutBase, ImageWriter, MetaTensor
from monai.utils import convert_to_numpy
from nibabel.affines import voxel_sizes
from PIL import Image

from ..io.atomic import atomic_write
from ..io.kinds import kind_by_suffix
from ..io.nifti import header_from_bytes, nifti_header, slice_axis
from ..io.volumes import corners_apart
from ..plots import class_colours
from .inputs import InputFiles

__all__ = ["MaskLayout", "MaskWriter", "mask_path", "mask_suffix", "write_mask"]

TUMOUR_IN_PICTURE = 255  # so that any picture viewer shows it
BITS = 8  # of a pixel of a picture, one for each class that may overlap others
GEOMETRY = (
    *("pixdim", "xyzt_units", "sform_code", "srow_x", "srow_y", "srow_z"),
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
IMAGES = {nib.Nifti1Header: nib.Nifti1Image, nib.Nifti2Header: nib.Nifti2Image}


def mask_path(inputs: InputFiles, label: str) -> Path:
    """Where the mask of an input goes: PNG for pictures, NIfTI, packed as the input, for all else."""
    image = inputs.labelled(label)
    return inputs.output_dir / f"{image.name}_mask{mask_suffix(image.paths[0])}"


def mask_suffix(source: str | Path) -> str:
    """How the name of the mask of a file ends."""
    if kind_by_suffix(source) == "picture":
        return ".png"
    return ".nii" if Path(source).name.lower().endswith(".nii") else ".nii.gz"


def write_mask(mask: MetaTensor, path: str | Path, mask_names: Sequence[str] = ("tumour",)) -> None:
    """Write what ``SaveImage`` writes with `MaskWriter`, for a mask that no config saves.

    Args:
        mask: as for `MaskWriter`, with the metadata of `read_image`.
        path: where to; the suffix chooses the format.
        mask_names: of the classes.
    """
    writer = MaskWriter(mask_names=mask_names)
    writer.set_data_array(mask)
    writer.set_metadata(mask.meta)
    writer.write(path)


class MaskLayout(FolderLayoutBase):
    """File names for ``SaveImage``: the folders and names of the inputs, without collisions.

    Args:
        inputs: the images that are being segmented.
    """

    def __init__(self, inputs: InputFiles) -> None:
        self.inputs = inputs

    def filename(self, subject: str | Path = "", **kwargs: Any) -> Path:
        """Where the mask of the input ``subject`` goes."""
        return mask_path(self.inputs, self.inputs.of(subject).label)


class MaskWriter(ImageWriter):
    """Write a mask for ``SaveImage``, whole or not at all: NIfTI with the geometry of the input, or PNG.

    ========================  ==========================================  ====================================
    classes                   NIfTI, uint8                                PNG, 8 bits
    ========================  ==========================================  ====================================
    one                       0 and 1                                     0 and 255, grey
    several, (1, …) indices   0 for the background, 1 for the first …     the same, with a palette of colours
    several, (C, …) masks     (X, Y, Z, C): a mask for each class         bit c - 1 for class c, with a palette
    ========================  ==========================================  ====================================

    The colours are those of overlays; programs read the indices. Masks that overlap do not fit into one array of
    indices: their NIfTI file has a fourth axis, as MONAI writes channels, with Z = 1 for a slice. In a picture, classes
    1 and 3 of a pixel are 2⁰ + 2² = 5, for 8 classes at most.

    ``SaveImage`` by itself drops the last axis of a volume of one slice, and writes orientation codes of its own. Of an
    input's header, its geometry is copied and nothing else. The header is that of ``nifti_header`` in the metadata;
    where another reader left it out, the file ``filename_or_obj`` is opened for it.

    Args:
        mask_names: of the classes, in the order of their indices from 1.

    Attributes:
        refused: the error of the last mask, if the system did not take it: ``SaveImage`` turns it into text.

    Shape:
        - mask: (1, X, Y) or (1, X, Y, Z), 0 or 1, or 0 … C; or (C, X, Y) or (C, X, Y, Z), 0 or 1.

    Raises:
        ValueError: when called: overlapping masks of more than 8 classes are to be written as a picture.
    """

    refused: ClassVar[OSError | None] = None

    def __init__(self, output_dtype: Any = np.uint8, mask_names: Sequence[str] = ("tumour",), **kwargs: Any) -> None:
        super().__init__(output_dtype=output_dtype, meta={}, **kwargs)
        self.mask_names = list(mask_names)

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        array = convert_to_numpy(data_array)
        array = array[None] if channel_dim is None else np.moveaxis(array, channel_dim, 0)
        # (X, Y) or (X, Y, Z); of masks that may overlap (X, Y, Z, C).
        self.overlapping = len(array) > 1
        self.data_obj: np.ndarray = (_channels_last(array) if self.overlapping else array[0]).astype(np.uint8)

    def set_metadata(self, meta_dict: Any, **options: Any) -> None:
        self.meta = dict(meta_dict or {})

    def write(self, filename: str | PathLike, verbose: bool = False, **kwargs: Any) -> None:
        MaskWriter.refused = None
        try:
            super().write(filename, verbose=verbose)
            content = self._png() if str(filename).endswith(".png") else self._nifti(str(filename).endswith(".gz"))
            with atomic_write(Path(filename), needed=len(content)) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            MaskWriter.refused = error
            raise

    def _png(self) -> bytes:
        buffer = io.BytesIO()
        if len(self.mask_names) == 1:
            Image.fromarray(self.data_obj.T * np.uint8(TUMOUR_IN_PICTURE)).save(buffer, "png")
            return buffer.getvalue()
        pixels = _as_bits(self.data_obj) if self.overlapping else self.data_obj
        picture = Image.fromarray(np.ascontiguousarray(pixels.reshape(pixels.shape[:2]).T), mode="P")
        picture.putpalette(_palette(len(self.mask_names), self.overlapping))
        picture.save(buffer, "png")
        return buffer.getvalue()

    def _nifti(self, packed: bool) -> bytes:
        header = self._header()
        if header is not None:
            image = _with_header_of(header, self.data_obj)
        else:
            image = nib.Nifti1Image(self.data_obj, convert_to_numpy(self.meta["original_affine"]), dtype=np.uint8)
            image.header.set_xyzt_units("mm")
            # Both codes, or viewers that look at the other one see no geometry.
            image.set_sform(image.affine, code="scanner")
            image.set_qform(image.affine, code="scanner")
            if corners_apart(image.shape, image.get_qform(), image.affine) > 0.5 * voxel_sizes(image.affine).min():
                # A qform has no shear, as slices have that are tilted against their stack.
                image.set_qform(None, code="unknown")
            if image.ndim == 2:
                # nibabel sets the spacing of axes that an array does not have to 1, whatever the affine says.
                image.header["pixdim"][3] = voxel_sizes(image.affine)[2]
        # No time in the packed file: equal masks give equal bytes.
        return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0) if packed else image.to_bytes()

    def _header(self) -> Any:
        """Of the input, if that is NIfTI: from its metadata, or from the file where another reader wrote those."""
        if "nifti_header" in self.meta:
            return header_from_bytes(convert_to_numpy(self.meta["nifti_header"]).tobytes())
        source = str(self.meta.get("filename_or_obj", ""))
        return nifti_header(source) if kind_by_suffix(source) == "nifti" else None


def _channels_last(masks: np.ndarray) -> np.ndarray:
    """(C, X, Y) or (C, X, Y, Z) to (X, Y, Z, C)."""
    return np.moveaxis(masks.reshape(*masks.shape[:3], -1), 0, -1)


def _as_bits(masks: np.ndarray) -> np.ndarray:
    """(…, C) to (…), bit c of the pixel for mask c."""
    if masks.shape[-1] > BITS:
        raise ValueError(
            f"a picture holds overlapping masks of {BITS} classes at most, and there are {masks.shape[-1]}: give the "
            "network NIfTI or DICOM files."
        )
    return np.packbits(masks != 0, axis=-1, bitorder="little")[..., 0]


def _palette(classes: int, overlapping: bool) -> list[int]:
    """Red, green and blue of each value of a pixel: the colours of overlays, blended where classes overlap."""
    colours = np.array([to_rgb(colour) for colour in class_colours(classes)]) * 255
    if not overlapping:
        return [0, 0, 0, *colours.round().astype(int).ravel().tolist()]
    blended: list[int] = []
    for value in range(2**classes):
        present = [colours[number] for number in range(classes) if value >> number & 1]
        blended += np.mean(present, axis=0).round().astype(int).tolist() if present else [0, 0, 0]
    return blended


def _with_header_of(original: Any, mask: np.ndarray) -> Any:
    header = type(original)()
    for field in GEOMETRY:
        header[field] = original[field]
    header.set_data_dtype(np.uint8)
    # A slice along another axis than the last was turned when it was read.
    mask = np.moveaxis(mask, 2, slice_axis(original.get_data_shape())) if mask.ndim > 2 else mask
    image = IMAGES[type(original)](mask, None, header)
    # Of a slice with two axes, nibabel sets the spacing between slices to 1, and the affine has another.
    image.header["pixdim"] = original["pixdim"]
    return image
