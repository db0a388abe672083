"""Write slices as genuine MATLAB v7.3 files in the layout of the Figshare data set."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from data_prep.matfile import RawSlice
from data_prep.writers import TEMPORARY

USER_BLOCK = 512  # bytes in front of the HDF5 part, by which MATLAB knows its files


def write_slice(path: Path, raw: RawSlice, origin: str) -> None:
    """Write image, label, PID, border and mask, none of which may be None, as struct `cjdata`.

    Args:
        path: file to write; it appears under this name when it is complete.
        raw: the slice. A synthetic one gets a field `synthetic` in `cjdata`, which the converter copies to its output.
        origin: origin of the slice, for the readable first line of the file, up to 60 ASCII characters.
    """
    assert raw.label is not None, "a slice to write has a label"
    assert raw.pid is not None, "a slice to write has a PID"
    assert raw.border is not None, "a slice to write has a border"
    assert raw.mask is not None, "a slice to write has a mask"
    image = raw.image
    # name: (array as stored in HDF5, i.e. transposed, MATLAB class, type that MATLAB decodes integers to)
    fields = {
        "label": (np.array([[raw.label]], "f8"), "double", None),
        "PID": (np.array([[ord(letter)] for letter in raw.pid], "u2"), "char", 2),
        "image": (np.ascontiguousarray(image.T), image.dtype.name, None),
        "tumorBorder": (raw.border.astype("f8").reshape(1, -1), "double", None),
        "tumorMask": (np.ascontiguousarray(raw.mask.T.astype(np.uint8)), "logical", 1),
    }
    if raw.synthetic:
        fields["synthetic"] = (np.array([[1]], "u1"), "logical", 1)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with h5py.File(temporary, "w", userblock_size=USER_BLOCK, libver="earliest") as file:
        struct = file.create_group("cjdata")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")
        names = np.empty(len(fields), object)
        for i, name in enumerate(fields):
            names[i] = np.frombuffer(name.encode(), "S1")
        struct.attrs.create("MATLAB_fields", names, dtype=h5py.vlen_dtype(np.dtype("S1")))
        for name, (array, kind, decode) in fields.items():
            packing = {"compression": "gzip", "compression_opts": 1} if array.size > 4096 else {}
            data = struct.create_dataset(name, data=array, **packing)
            data.attrs["MATLAB_class"] = np.bytes_(kind)
            if decode is not None:
                data.attrs["MATLAB_int_decode"] = np.int32(decode)
    with open(temporary, "r+b") as file:
        file.write(_user_block(origin))
    os.replace(temporary, path)


def _user_block(origin: str) -> bytes:
    text = f"MATLAB 7.3 MAT-file, {origin} HDF5 schema 1.00 .".encode("ascii")
    version, byte_order = b"\x00\x02", b"IM"
    return (text[:116].ljust(116) + bytes(8) + version + byte_order).ljust(USER_BLOCK, b"\0")
