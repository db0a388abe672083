"""Read slices and volumes, and write masks, with numpy alone: NIfTI-1, arrays and pictures. Part of predict.py."""

import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np

NIFTI = (".nii", ".nii.gz")
NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
MAX_PIXELS = 2**27  # 512 slices of 512 × 512
EXTENSIONS = 2**24  # bytes between header and pixels
PICTURE_AFFINE = np.diag([-1.0, -1.0, 1.0])  # columns run to the patient's left, rows to the back or to the feet


def check_size(shape):
    if np.prod(shape, dtype=float) > MAX_PIXELS:
        raise ValueError(f"it has the size {shape}, more than {MAX_PIXELS} pixels")


def read_nifti(path, channels=False):
    """The image, (X, Y) or (X, Y, Z), with ``channels`` also (X, Y, Z, C); the 3 × 3 part of its affine, indices to
    RAS+; and a header for `write`."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
        raw = file.read(352)
        order = "<" if raw[:4] == (348).to_bytes(4, "little") else ">"
        if len(raw) < 352 or raw[344:347] != b"n+1":
            raise ValueError("it is not a single-file NIfTI-1 file")

        def get(kind, start, count=1):
            return np.frombuffer(raw, order + kind, count, start)

        dimensions, kind = get("i2", 40, 8), int(get("i2", 70)[0])
        shape = tuple(int(n) for n in dimensions[1 : 1 + dimensions[0]])
        if not 2 <= len(shape) <= 3 + channels or min(shape) < 1 or kind not in NIFTI_TYPES:
            raise ValueError(f"it has axes {shape} and data type {kind}; a slice or a volume of numbers is expected")
        check_size(shape)
        offset = max(float(get("f4", 108)[0]), 352)  # nifti1.h: less than 352 is equivalent to 352
        if not offset <= 352 + EXTENSIONS:
            raise ValueError(f"its pixels begin at byte {offset:g}")
        file.seek(int(offset))
        number = np.dtype(order + NIFTI_TYPES[kind])
        image = np.frombuffer(file.read(int(np.prod(shape)) * number.itemsize), number).reshape(shape, order="F")
        # Read to the end, where gzip checks its checksum.
        if all(file.read(2**20) for _ in range(2**10)):
            raise ValueError("it has far more data than its pixels")
    slope, intercept = get("f4", 112, 2).astype(float)
    image = image * slope + intercept if np.isfinite(slope) and slope != 0 else image
    size = get("f4", 76, 4).astype(float)
    spacing = np.where(size[1:] == 0, 1, np.abs(size[1:]))
    if 0 < get("i2", 254)[0] <= 5:
        rows = get("f4", 280, 12).astype(float).reshape(3, 4)
        affine, origin = rows[:, :3], rows[:, 3]
    elif 0 < get("i2", 252)[0] <= 5 and all(n < 2 or mm for n, mm in zip(shape, size[1:], strict=False)):
        v, unit = get("f4", 256, 3).astype(float), np.eye(3)
        if not v @ v < 1 + 1e-5:
            raise ValueError("its orientation (qform) is no rotation")
        a = np.sqrt(max(0.0, 1 - v @ v))
        rotation = (2 * a * a - 1) * unit + 2 * np.outer(v, v) + 2 * a * np.cross(v, unit).T
        affine, origin = rotation * spacing * [1, 1, -1 if size[0] < 0 else 1], get("f4", 268, 3).astype(float)
    else:
        affine, origin = np.diag(np.where(np.arange(3) < len(shape), spacing, 1) * [-1, 1, 1]), np.zeros(3)
    millimetres = {1: 1000.0, 3: 0.001}.get(raw[123] & 7, 1.0)  # of metres, microns
    affine, origin = affine * millimetres, origin * millimetres
    # The slices are along the last axis, except for a single slice that was cropped along another axis.
    last = min(len(shape), 3) - 1
    axis = shape.index(1) if shape[2:3] > (1,) and 1 in shape[:2] and max(shape[:2]) > 1 else last
    affine = affine[:, [*sorted({0, 1, 2} - {axis}), axis]] if axis < last == 2 else affine
    return np.moveaxis(image, axis, last), affine, (raw, order, axis, origin)


def grey_values(image):
    """The image in float32."""
    exact = image.astype(float) if image.size and image.dtype.kind in "buif" else np.zeros(1)
    rounded = exact.astype(np.float32)
    if not 0 < np.ptp(rounded) < np.inf or np.abs(exact - rounded).max() > np.ptp(exact) / 512:
        raise ValueError("it is constant, or has NaN, or values that 32 bits can't represent")
    return rounded


def write(path, mask, header, overlapping=False):
    """Write a mask, whole or not at all: NIfTI with the geometry of ``header``, or an array where there is none."""
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        if header is None:
            np.save(partial, np.stack([each.T for each in mask]) if overlapping else mask.T)
        else:
            partial.write_bytes(gzip.compress(nifti(mask, header, overlapping), mtime=0))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def nifti(mask, header, overlapping):
    """The bytes of a mask in the geometry of the file of ``header``; overlapping masks are along a fourth axis."""
    original, order, axis, _ = header
    raw = bytearray(352)
    # Its geometry alone: texts of a header may name the patient.
    for start, end in ((0, 4), (76, 108), (123, 124), (252, 328), (344, 348)):
        raw[start:end] = original[start:end]
    if overlapping:
        mask = np.stack([np.moveaxis(each, -1, axis) for each in mask], axis=-1)
        mask = mask.reshape(*mask.shape[:2], -1, mask.shape[-1])
    else:
        mask = np.moveaxis(mask, -1, axis)
    raw[40:56] = np.array([mask.ndim, *mask.shape, *[1] * (7 - mask.ndim)], order + "i2").tobytes()
    for start, kind, values in ((70, "i2", [2, 8]), (108, "f4", [352, 1, 0]), (124, "f4", [1, 0])):
        raw[start : start + len(values) * int(kind[1])] = np.array(values, order + kind).tobytes()
    return bytes(raw) + mask.tobytes(order="F")


def read(path, channels=False):
    if not path.is_file():
        raise ValueError("it does not exist, or is not a regular file")
    if path.name.lower().endswith(NIFTI):
        return read_nifti(path, channels)
    if path.suffix.lower() == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        check_size(array.shape)
        if array.ndim != 2:
            raise ValueError(f"it has axes {array.shape}; a slice, (rows, columns), is expected")
        return np.array(array).T, PICTURE_AFFINE, None
    from PIL import Image, ImageOps

    opened = Image.open(path, formats=("PNG", "JPEG"))
    check_size(opened.size)
    if ";16" in str(opened.tile) and not opened.mode.startswith("I"):
        raise ValueError("it is a PNG with 16-bit colours or transparency: save it as 16-bit grey")
    picture = ImageOps.exif_transpose(opened)
    if picture.mode not in ("L", "I", "F") and not picture.mode.startswith("I;16"):
        picture = picture.convert("RGB").convert("L")
    return np.asarray(picture).T, PICTURE_AFFINE, None


def add_files(parser, name, shown):
    """The arguments for files and their masks."""
    parser.add_argument(name, type=expanded, nargs="+", metavar=shown)
    parser.add_argument("--output_dir", type=expanded, default=Path(), help="for masks (default: working directory)")
    parser.add_argument("--overwrite", action="store_true", help="replace masks that are there already")


def expanded(text):
    """A path with ~ expanded, which a shell leaves in --output_dir=~/masks."""
    return Path(os.path.expanduser(text))


def mask_name(name):
    stem = (name[:-3] if name.lower().endswith(".gz") else name).rsplit(".", 1)[0]
    return os.fsdecode(os.fsencode(stem)[:225]) + ("_mask.nii.gz" if name.lower().endswith(NIFTI) else "_mask.npy")


def make_room(folder, masks):
    """Make the folder, and remove masks of earlier runs, which would be taken for those of files that are left out."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output_dir {folder} is no folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path in masks:
        if path.is_file():
            path.unlink()


def check_masks(paths, overwrite, images):
    if given := {path.resolve() for path in paths} & {path.resolve() for path in images}:
        raise ValueError(f"{given.pop()} is an image and would be overwritten as a mask: choose another --output_dir")
    for path, count in Counter(paths).items():
        if count > 1:
            raise ValueError(f"{count} files would get the mask {path}: run them with different --output_dir")
        if path.exists() and not overwrite:
            raise ValueError(f"{path} is there already: choose another --output_dir, or replace it by --overwrite")
