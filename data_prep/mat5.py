"""Read arrays from `.mat` files older than v7.3."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from data_prep.hdf5 import MOST_LETTERS, Refused, no_slice
from data_prep.limits import CHUNK, check_bytes, check_pixels

__all__ = ["fields_of"]

HEADER = 128  # bytes before the first variable
COMPRESSED = 15  # type of an element that holds another one, compressed by zlib


def fields_of(blob: bytes, names: Sequence[str], max_pixels: int) -> dict[str, np.ndarray | str]:
    """Read fields, as `data_prep.hdf5.fields_of`.

    Raises:
        Refused: there are no such fields.
        TooLarge: a variable is larger than allowed, before or after decompression.
        Exception: of many different types, from scipy, when the file is damaged.
    """
    from scipy.io import loadmat, whosmat  # slow to import, and few files need it

    _check_unpacked(blob, max_pixels)
    there = {name: (shape, kind) for name, shape, kind in whosmat(io.BytesIO(blob))}
    wanted = ["cjdata"] if "cjdata" in there else list(names) if "image" in there else ["cvind"]
    if not there.keys() & set(wanted):
        raise Refused(no_slice(list(there)))
    for name in wanted:
        if name in there:
            _check_variable(name, *there[name], max_pixels)
    content = loadmat(io.BytesIO(blob), variable_names=wanted)
    if "cjdata" in there:
        fields = content["cjdata"].ravel()[0]
        content = {name: fields[name] for name in fields.dtype.names or ()}
    return {name: _value(content[name], name, max_pixels) for name in (*names, "cvind") if name in content}


def _check_unpacked(blob: bytes, max_pixels: int) -> None:
    """Count the bytes of decompressed variables, because the sizes in their headers may be wrong."""
    mark = blob[126:128]
    if mark not in (b"IM", b"MI"):
        return  # version 4 has no compression
    tag, at, count = struct.Struct("<II" if mark == b"IM" else ">II"), HEADER, 0
    while at + tag.size <= len(blob):
        kind, size = tag.unpack_from(blob, at)
        at += tag.size
        if kind == COMPRESSED:
            unpacker, rest = zlib.decompressobj(), blob[at : at + size]
            while rest and not unpacker.eof:
                count += len(unpacker.decompress(rest, CHUNK))
                rest = unpacker.unconsumed_tail
                check_bytes(count, max_pixels)
        at += size


def _check_variable(name: str, shape: tuple[int, ...], kind: str, max_pixels: int) -> None:
    count = math.prod(map(int, shape))
    if name != "cjdata":
        if kind == "sparse":
            raise Refused(f"{name} is a sparse matrix: save it as full({name})")
        check_pixels(count, max_pixels)
    elif kind != "struct":
        raise Refused(f"cjdata is no struct ({kind})")
    elif count != 1:
        many = "empty" if count == 0 else f"an array of {count} structs: save each slice as a file of its own"
        raise Refused(f"cjdata is {many}")


def _value(value: object, name: str, max_pixels: int) -> np.ndarray | str:
    if not isinstance(value, np.ndarray):
        raise Refused(f"{name} is a sparse matrix: save it as full({name})")
    if value.dtype.kind == "U":
        if value.nbytes > MOST_LETTERS * np.dtype("U1").itemsize:
            raise Refused(f"{name} is a text of more than {MOST_LETTERS} letters")
        return "".join(value.ravel())
    if value.dtype.kind not in "buif":
        kind = {"O": "a cell array or an object", "V": "a struct or an object", "c": "complex numbers"}
        raise Refused(f"{name} holds no real numbers ({kind.get(value.dtype.kind, value.dtype)})")
    check_pixels(value.size, max_pixels)
    return value
