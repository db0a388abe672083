"""What a file will take in memory, told from its header before its pixels are read."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import nibabel as nib
import pydicom
from PIL import Image
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from ..inference import UnreadableImage
from ..io.dicom import quietly
from ..io.readers import PICTURE_FORMATS, kind_of

__all__ = ["MOST_PIXELS", "TooManyPixels", "pixels_told"]

MOST_PIXELS = 2**25  # 128 slices of 512 × 512
# The widest pixels there are, and some room for header and extensions.
MOST_UNPACKED = 8 * MOST_PIXELS + 2**20
# The network sees a slice of a volume at its own size, however small it is in the file.
LEAST_OF_A_SLICE = 2**16
# Two bytes of run-length encoding make up to 128, whatever size the header tells.
MOST_RUN_LENGTH = MOST_UNPACKED // 64
CHUNK = 2**20


class TooManyPixels(ValueError):
    """An upload that is small when packed, and would fill the memory."""

    def __init__(self) -> None:
        super().__init__(f"it has more than the {MOST_PIXELS / 1e6:.0f} million pixels that this page takes at once")


def pixels_told(path: Path) -> int:
    """Number of pixels that the header promises; 0 when it can't be read, which the reader then explains.

    Args:
        path: NIfTI, PNG, JPEG or DICOM, see `kind_of`.

    Raises:
        TooManyPixels: it unpacks to more than `MOST_PIXELS` can take.
        UnreadableImage: it is packed in a way whose size can't be told without unpacking.
    """
    told = {"nifti": _nifti, "picture": _picture, "dicom": _dicom}[kind_of(path)]
    try:
        return told(path)
    except (TooManyPixels, UnreadableImage):
        raise
    except Image.DecompressionBombError:
        raise TooManyPixels from None
    except Exception:  # the readers know the dozen types that damaged headers raise, and name them
        return 0


def _nifti(path: Path) -> int:
    if path.name.endswith(".gz"):
        # Extensions of the header are read with it, however long they are: what unpacks is counted first.
        unpacked = 0
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK):
                unpacked += len(chunk)
                if unpacked > MOST_UNPACKED:
                    raise TooManyPixels
    columns, rows, *slices = (max(int(length), 0) for length in nib.load(path).shape)
    return max(columns * rows, LEAST_OF_A_SLICE if slices else 0) * math.prod(slices)


def _picture(path: Path) -> int:
    with Image.open(path, formats=PICTURE_FORMATS) as picture:
        return picture.width * picture.height


def _dicom(path: Path) -> int:
    with quietly():
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == RLELossless and path.stat().st_size > MOST_RUN_LENGTH:
            raise UnreadableImage(
                f"the DICOM file is run-length encoded and bigger than {MOST_RUN_LENGTH / 2**20:.0f} MB, which this "
                "page does not take"
            )
        if syntax == DeflatedExplicitVRLittleEndian:
            raise UnreadableImage("the DICOM file is deflated as a whole, which this page does not take")
        names = ["Rows", "Columns", "NumberOfFrames"]
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=names)
        # Not all of them are unsigned, and one file must not pay for another.
        rows, columns, frames = (abs(int(header.get(name) or 1)) for name in names)
    return rows * columns * frames
