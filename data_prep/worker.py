"""Convert one source file: read, check, write and describe it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.folds import group_of
from data_prep.limits import MAX_PIXELS, TooLarge
from data_prep.matfile import CLASSES, BadSlice, RawSlice, read_folds, read_slice
from data_prep.polygon import poly2mask
from data_prep.sources import Reader, stamp_of
from data_prep.writers import SPACING, SUFFIXES, encode, write_file

Row = dict[str, str]

AGREE = 0.95  # Dice of mask and border below which the manifest notes that they disagree
LARGE = 2**24  # bytes; slices take half a megabyte
OK, BAD, DUPLICATE, FOLDS = "ok", "bad", "duplicate", "folds"


@dataclass(frozen=True)
class Job:
    """One file: its name in the manifest, its id, and its content or the path to read it from."""

    name: str
    slice_id: str
    content: bytes | Path
    dst: Path
    format: str
    max_pixels: int = MAX_PIXELS

    @property
    def large(self) -> bool:
        """Whether several contents of this size, read ahead, could fill the memory."""
        return isinstance(self.content, bytes) and len(self.content) > LARGE


@dataclass(frozen=True)
class Done:
    """The file's row of `conversion.csv`, without the fold; and the fold numbers if it was a `cvind.mat`."""

    row: Row
    cvind: tuple[float, ...] | None = None


def is_converted(row: object) -> bool:
    """Whether this is a valid row of a converted slice, as an earlier run has written it."""
    needed = ("file", "id", "stamp", "label", "pid", "group", "synthetic")
    return isinstance(row, dict) and all(isinstance(row.get(key), str) for key in needed)


def output_files(slice_id: str, format: str) -> list[tuple[str, str]]:
    """Paths of image and mask relative to the data set folder, for each file type of the format."""
    return [(f"images/{slice_id}{suffix}", f"labels/{slice_id}{suffix}") for suffix in SUFFIXES[format]]


def convert_file(job: Job) -> Done:
    """Write the files of one slice. Bad input gives a row with the reason; only errors of the output are raised."""
    row: Row = {"file": job.name}
    try:
        blob = job.content if isinstance(job.content, bytes) else _content(job.content, job.max_pixels)
        row["stamp"] = stamp_of(blob)
        try:
            raw = read_slice(blob, job.name, max_pixels=job.max_pixels)
        except BadSlice:
            cvind = read_folds(blob, job.name, job.max_pixels)
            if cvind is None:
                raise
            reason = f"fold numbers of {cvind.size} slices"
            return Done({**row, "status": FOLDS, "reason": reason}, tuple(cvind.tolist()))
        mask, note = tumour_mask(raw)
        try:
            encoded = [encode(raw.image, mask, suffix, raw.synthetic) for suffix in SUFFIXES[job.format]]
        except ValueError as error:
            raise BadSlice(str(error)) from None
    except BadSlice as bad:
        return Done({**row, "status": BAD, "reason": bad.reason})
    except MemoryError:
        return Done({**row, "status": BAD, "reason": "it does not fit into memory"})
    for paths, contents in zip(output_files(job.slice_id, job.format), encoded, strict=True):
        for path, content in zip(paths, contents, strict=True):
            write_file(job.dst / path, content)
    return Done({**row, "status": OK, "reason": note, "id": job.slice_id, **_described(raw, mask)})


def _content(path: Path, max_pixels: int) -> bytes:
    with Reader(max_pixels) as reader:
        try:
            return reader.read((str(path),))
        except OSError as error:
            raise BadSlice(f"cannot be read ({error.strerror or error})") from None
        except TooLarge as error:
            raise BadSlice(str(error)) from None


def ended(job: Job, how: str) -> Done:
    """The row of a file whose reading process ended, as happens with damaged HDF5 files."""
    reason = f"ended the process that read it ({how}): damaged, or too little memory"
    return Done({"file": job.name, "status": BAD, "reason": reason})


def tumour_mask(raw: RawSlice) -> tuple[NDArray[np.bool_], str]:
    """The stored mask, else the polygon of the border; and a note for the manifest, empty where the two agree.

    Raises:
        BadSlice: the border encloses no pixel.
    """
    if raw.border is None:
        assert raw.mask is not None, "read_slice asks for a mask or a border"
        return raw.mask, "no border: mask not cross-checked"
    polygon = poly2mask(raw.border[:, 0], raw.border[:, 1], raw.image.shape)
    if raw.mask is None:
        if not polygon.any():
            raise BadSlice("no tumorMask, and tumorBorder encloses no pixel")
        return polygon, "mask made from the border"
    dice = 2 * np.count_nonzero(polygon & raw.mask) / (np.count_nonzero(polygon) + np.count_nonzero(raw.mask))
    return raw.mask, "" if dice >= AGREE else f"mask and border disagree (Dice {dice:.3f}): the mask is used"


def _described(raw: RawSlice, mask: NDArray[np.bool_]) -> Row:
    assert raw.label is not None, "read_slice asks for a label"
    assert raw.pid is not None, "read_slice asks for a PID"
    rows, cols = raw.image.shape
    return {
        "label": str(raw.label),
        "class_name": CLASSES[raw.label],
        "pid": raw.pid,
        "group": group_of(raw.pid),
        "rows": str(rows),
        "cols": str(cols),
        "min": str(raw.image.min()),
        "max": str(raw.image.max()),
        "mask_area_mm2": f"{np.count_nonzero(mask) * SPACING[0] * SPACING[1]:.2f}",
        "synthetic": "yes" if raw.synthetic else "no",
    }
