"""One reader for all the formats that slices come in, each giving the array that training saw."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import ImageReader
from monai.utils import ensure_tuple
from PIL import Image, ImageOps

from .dicom import is_dicom, read_dicom
from .unreadable import UnreadableImage

__all__ = ["SUFFIXES", "SliceReader", "UnreadableImage", "kind_of", "read_image"]

SUFFIXES = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".dcm": "dicom",
    ".mat": "mat",
}
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
# Pillow reads much else under a picture's name, and hands some of it to other programs.
PICTURE_FORMATS = ("PNG", "JPEG")
GREY_MODES = {"L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_CHUNK = 2**20


def kind_of(path: str | Path) -> str | None:
    """``"nifti"``, ``"picture"``, ``"dicom"`` or ``"mat"`` by the suffix, DICOM also by its mark; else ``None``.

    Example:
        >>> kind_of("scan.nii.gz"), kind_of("SLICE.PNG"), kind_of("notes.txt")
        ('nifti', 'picture', None)
    """
    name = Path(path).name.lower()
    for suffix, kind in SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    return "dicom" if Path(path).is_dir() or is_dicom(path) else None


def read_image(paths: str | Path | Sequence[str | Path], constant: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a slice or a volume, with its geometry.

    Args:
        paths: a file; a folder with one DICOM series; or the files of one DICOM series.
        constant: whether every pixel may have the same value, as in a mask without a tumour.

    Returns:
        The image, finite and not constant unless it may be, (X, Y) or (X, Y, slices), X = column and Y = row of a
        picture: pictures and 2-D NIfTI have no third axis, DICOM and ``.mat`` have one also for a single slice. And
        MONAI's metadata: ``affine`` (4 × 4, indices to RAS+ in mm), ``original_affine``, ``spatial_shape``,
        ``original_channel_dim``, ``space``, and ``spacing`` ((3,), mm, NaN where it is not known).

    Raises:
        UnreadableImage: the file can't be used; the message says why.
    """
    paths = [Path(path) for path in ensure_tuple(paths)]
    kind = kind_of(paths[0])
    if kind is None:
        raise UnreadableImage("it is none of NIfTI, PNG, JPEG, DICOM, .mat")
    if paths[0].is_file() and paths[0].stat().st_size == 0:
        raise UnreadableImage("the file is empty")
    if kind == "dicom":
        image, affine, spacing = read_dicom(paths)
    else:
        image, affine, spacing = {"nifti": _nifti, "picture": _picture, "mat": _mat}[kind](paths[0])
    if image.size == 0:
        raise UnreadableImage("the image has no pixels")
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        raise UnreadableImage(f"the image holds NaN or infinity in {bad} pixels")
    low, high = image.min(), image.max()
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.float32(high) - np.float32(low)
    if not np.isfinite(spread):
        # Scaled to 0 … 1 they would be NaN, for which the network would be blamed.
        raise UnreadableImage("the image holds values too large to be scaled in 32 bits")
    if not constant and low == high:
        raise UnreadableImage(f"the image is constant (every pixel is {image.flat[0]:g})")
    return image, {
        "affine": affine,
        "original_affine": affine.copy(),
        "spatial_shape": np.asarray(image.shape),
        "original_channel_dim": float("nan"),
        "space": "RAS",
        "spacing": spacing,
    }


def _nifti(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        file = nib.load(path)
        shape, kind = file.shape, file.get_data_dtype()
        if len(shape) not in (2, 3):
            raise UnreadableImage(f"the NIfTI image has {len(shape)} axes {shape}; a slice or a volume has 2 or 3")
        if kind.fields is not None or kind.kind not in "buif":
            raise UnreadableImage(f"the NIfTI image holds colours or complex numbers ({kind}), not grey values")
        image = np.asanyarray(file.dataobj)
        if path.name.lower().endswith(".gz"):
            # nibabel stops at the last pixel, before the checksum that tells whether they are the ones.
            with gzip.open(path) as stream:
                while stream.read(_CHUNK):
                    pass
        affine = np.asarray(file.affine, dtype=float)
        scale = MILLIMETRES.get(file.header.get_xyzt_units()[0], 1.0)
    except UnreadableImage:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnreadableImage("the file is truncated or damaged: copy it again") from None
    except MemoryError:
        raise UnreadableImage("its header asks for more pixels than fit into memory: is it damaged?") from None
    except Exception as error:  # a damaged header makes nibabel raise half a dozen different types
        raise UnreadableImage(
            f"it can't be read as NIfTI, truncated or damaged? ({_first_line(error, path)})"
        ) from None
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise UnreadableImage("its affine is no geometry: it holds NaN, or axes without direction")
    return image, affine, np.linalg.norm(affine[:3, :3], axis=0) * scale


def _picture(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as file:
            # Viewers turn pictures as the camera says, so the network and the mask get them turned too.
            picture = ImageOps.exif_transpose(file)
            if picture.mode not in GREY_MODES:
                picture = picture.convert("RGB").convert("L")
            image = np.asarray(picture).T
    except Image.DecompressionBombError:
        raise UnreadableImage("the picture is too big") from None
    except Exception as error:  # damaged pixels, headers and EXIF make PIL raise half a dozen different types
        text = "cannot identify" if "cannot identify" in str(error) else _first_line(error, path)
        raise UnreadableImage(f"it can't be read as a picture, truncated or damaged? ({text})") from None
    # A picture is upright and has no size in mm. In RAS terms its columns run to the left, its rows to the back.
    return image, np.diag([-1.0, -1.0, 1.0, 1.0]), np.full(3, np.nan)


def _mat(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Raw-file readers are of no use to a server that gets NIfTI.
    from data_prep.matfile import BadSlice, read_slice
    from data_prep.writers import SPACING

    try:
        image = read_slice(path, labelled=False).image
    except BadSlice as bad:
        raise UnreadableImage(bad.reason) from None
    # As data_prep converts it.
    return image.T[..., None], np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]), np.asarray(SPACING)


def _first_line(error: Exception, path: Path) -> str:
    # The type too, as a KeyError says no more than the key.
    line = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".removesuffix(": ")
    # Where the file lies is nobody's business who reads the table.
    return line.replace(str(path), path.name)[:160]


class SliceReader(ImageReader):
    """`read_image` for MONAI's ``LoadImage``: ``LoadImaged(keys="image", reader="monai_kd.io.SliceReader")``.

    ``LoadImage`` hands a file that a reader fails to ``read`` to the next reader, which would make a three-channel
    image of a colour picture, say. So ``read`` only notes the paths, and ``get_data`` reads.

    Args:
        constant: as for `read_image`; for masks.
    """

    def __init__(self, constant: bool = False) -> None:
        super().__init__()
        self.constant = bool(constant)

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        return kind_of(ensure_tuple(filename)[0]) is not None

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> tuple[str | Path, ...]:
        return ensure_tuple(data)

    def get_data(self, img: tuple[str | Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        """The array and the metadata of `read_image`.

        Raises:
            UnreadableImage: the file can't be used; the message names it.
        """
        try:
            return read_image(img, self.constant)
        except UnreadableImage as error:
            raise UnreadableImage(error.reason, str(img[0])) from None
