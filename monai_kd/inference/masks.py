"""Masks as files, in the geometry of the file that was segmented."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
from monai.data import FolderLayoutBase, ImageWriter, MetaTensor
from monai.utils import convert_to_numpy
from PIL import Image

from ..io.atomic import atomic_write
from ..io.nifti import nifti_header, slice_axis
from ..io.readers import kind_of
from .inputs import InputFiles

__all__ = ["MaskLayout", "MaskWriter", "mask_path", "mask_suffix", "write_mask"]

TUMOUR_IN_PICTURE = 255  # so that any picture viewer shows it
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
    if kind_of(source) == "picture":
        return ".png"
    return ".nii" if Path(source).name.lower().endswith(".nii") else ".nii.gz"


def write_mask(mask: MetaTensor, path: str | Path) -> None:
    """Write what ``SaveImage`` writes with `MaskWriter`, for a mask that no config saves.

    Args:
        mask: (1, X, Y) or (1, X, Y, Z), 0 or 1, with ``filename_or_obj`` and ``original_affine`` in its metadata.
        path: where to; the suffix chooses the format.
    """
    writer = MaskWriter()
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
    """Write a mask for ``SaveImage``, whole or not at all: NIfTI with the geometry of the input, or PNG of 0 and 255.

    ``SaveImage`` by itself drops the last axis of a volume of one slice, and writes orientation codes of its own. Of an
    input's header, its geometry is copied and nothing else.

    Attributes:
        refused: the error of the last mask, if the system did not take it: ``SaveImage`` turns it into text.

    Shape:
        - mask: (1, X, Y) or (1, X, Y, Z), 0 or 1.
    """

    refused: ClassVar[OSError | None] = None

    def __init__(self, output_dtype: Any = np.uint8, **kwargs: Any) -> None:
        super().__init__(output_dtype=output_dtype, meta={}, **kwargs)

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        array = convert_to_numpy(data_array)
        self.data_obj = (array if channel_dim is None else np.take(array, 0, axis=channel_dim)).astype(np.uint8)

    def set_metadata(self, meta_dict: Any, **options: Any) -> None:
        self.meta = dict(meta_dict or {})

    def write(self, filename: str | Path, verbose: bool = False, **kwargs: Any) -> None:
        MaskWriter.refused = None
        try:
            super().write(filename, verbose=verbose)
            content = self._png() if str(filename).endswith(".png") else self._nifti(str(filename).endswith(".gz"))
            with atomic_write(filename, needed=len(content)) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            MaskWriter.refused = error
            raise

    def _png(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.data_obj.T * np.uint8(TUMOUR_IN_PICTURE)).save(buffer, "png")
        return buffer.getvalue()

    def _nifti(self, packed: bool) -> bytes:
        source = str(self.meta.get("filename_or_obj", ""))
        if kind_of(source) == "nifti":
            image = _with_header_of(nifti_header(source), self.data_obj)
        else:
            image = nib.Nifti1Image(self.data_obj, convert_to_numpy(self.meta["original_affine"]), dtype=np.uint8)
            image.header.set_xyzt_units("mm")
            # Both codes, or viewers that look at the other one see no geometry.
            image.set_sform(image.affine, code="scanner")
            image.set_qform(image.affine, code="scanner")
        # No time in the packed file: equal masks give equal bytes.
        return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0) if packed else image.to_bytes()


def _with_header_of(original: Any, mask: np.ndarray) -> Any:
    header = type(original)()
    for field in GEOMETRY:
        header[field] = original[field]
    header.set_data_dtype(np.uint8)
    # A slice along another axis than the last was turned when it was read.
    mask = np.moveaxis(mask, -1, slice_axis(original.get_data_shape())) if mask.ndim == 3 else mask
    return IMAGES[type(original)](mask, None, header)
