"""Read arrays from v7.3 `.mat` files, which are HDF5: only data stored in the file itself, up to a size limit."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import h5py
import numpy as np

from data_prep.limits import CHUNK, TooLarge, check_bytes, check_pixels, most_bytes

__all__ = ["Refused", "fields_of"]

# The filters that MATLAB uses. HDF5 would load others as plugins, which are executable code.
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
MOST_PACKED = 1032  # largest compression ratio of deflate
MOST_LETTERS = 4096


class Refused(Exception):
    """The file holds something that is not read; the message names it and the reason."""


def fields_of(blob: bytes, names: Sequence[str], max_pixels: int) -> dict[str, np.ndarray | str]:
    """Read fields of struct `cjdata`, or of the root where there is no such struct; in a `cvind.mat`, `cvind` alone.

    Args:
        blob: content of the file.
        names: of the fields to read; those that the file lacks are skipped.
        max_pixels: largest number of values of a field.

    Returns:
        field name to value: numeric arrays in MATLAB's orientation, character arrays as text.

    Raises:
        Refused: there are no such fields, they are stored in another file, or they are compressed by other filters
            than MATLAB's.
        TooLarge: a field is larger than allowed.
    """
    with h5py.File(h5py.h5f.open_file_image(blob), "r") as file:
        group = file
        if "cjdata" in file.keys():  # noqa: SIM118  ("in file" follows links)
            group = _object(file, "cjdata")
            if not isinstance(group, h5py.Group):
                raise Refused(_no_struct(group))
        elif "image" not in file.keys():  # noqa: SIM118
            if "cvind" not in file.keys():  # noqa: SIM118
                raise Refused(no_slice(list(file)))
            names = ["cvind"]
        there = set(group.keys())
        return {name: _value(_object(group, name), name, max_pixels) for name in names if name in there}


def no_slice(keys: Sequence[str]) -> str:
    """The reason why a file with these variables is not a slice."""
    return f"no struct cjdata and no field image in it (it holds: {', '.join(sorted(keys)[:8]) or 'nothing'})"


def _object(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
    """The object stored under a name in this file; links are refused, because they may lead to any other file."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        kind = {h5py.SoftLink: "a soft link", h5py.ExternalLink: "a link to another file"}
        raise Refused(f"{name} is {kind.get(type(link), 'a link')}, not an array: it is not followed")
    return group[name]


def _no_struct(found: object) -> str:
    if isinstance(found, h5py.Dataset) and h5py.check_ref_dtype(found.dtype) is h5py.Reference:
        return f"cjdata is a cell array of {found.size}, not a struct: save each slice as a file of its own"
    return "cjdata is no struct"


def _value(data: object, name: str, max_pixels: int) -> np.ndarray | str:
    if isinstance(data, h5py.Group):
        sparse = "MATLAB_sparse" in data.attrs
        kind = "a sparse matrix: save it as full(...)" if sparse else "a group where an array is expected"
        raise Refused(f"{name} is {kind}")
    if not isinstance(data, h5py.Dataset):
        raise Refused(f"{name} is no array")
    if data.shape is None:
        return np.zeros((0, 0))
    letters = _attribute(data, "MATLAB_class") == b"char"
    if h5py.check_string_dtype(data.dtype) is not None:
        if data.size != 1:
            raise Refused(f"{name} holds {data.size} texts where one is expected")
    elif h5py.check_ref_dtype(data.dtype) is h5py.Reference:
        # MATLAB stores the fields of an array of structs as references, and cells too.
        if _attribute(data, "MATLAB_class") == b"cell":
            raise Refused(f"{name} is a cell array")
        raise Refused(f"cjdata is an array of {data.size} structs: save each slice as a file of its own")
    elif data.dtype.kind not in "buif":
        raise Refused(f"{name} holds no real numbers ({_kind_of(data.dtype)})")
    _check_size(data, letters, name, max_pixels)
    _check_storage(data, name, max_pixels)
    if _attribute(data, "MATLAB_empty"):  # MATLAB stores the size of an empty array as if it were its content
        return np.zeros((0, 0))
    value = data[()]
    if isinstance(value, bytes | str) or np.asarray(value).dtype.kind in "SO":
        text = np.asarray(value).item()
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    array = np.asarray(value)
    if letters and array.dtype.kind in "ui":
        return "".join(map(chr, array.ravel()))
    return array.T


def _kind_of(dtype: np.dtype) -> str:
    if dtype.hasobject:
        return "references or lists"
    return "complex numbers" if dtype.kind == "c" else "a compound" if dtype.fields else str(dtype)


def _attribute(data: h5py.Dataset, name: str) -> object:
    """The value of a scalar attribute of a plain type, else ``None``."""
    # Most arrays lack most attributes, and h5py's mapping of them takes longer to make than a small array to read.
    if not h5py.h5a.exists(data.id, name.encode()):
        return None
    found = data.attrs.get_id(name)
    one = found.shape is not None and math.prod(found.shape) == 1
    return np.asarray(data.attrs[name]).item() if one and found.dtype.kind in "buiS" else None


def _check_size(data: h5py.Dataset, letters: bool, name: str, max_pixels: int) -> None:
    size = math.prod(map(int, data.shape))
    if (letters or data.dtype.kind == "S") and size * max(data.dtype.itemsize // 8, 1) > MOST_LETTERS:
        raise Refused(f"{name} is a text of more than {MOST_LETTERS} letters")
    check_pixels(size, max_pixels)
    check_bytes(size * data.dtype.itemsize, max_pixels)
    if data.chunks is not None:
        # HDF5 decompresses whole chunks, which may be larger than the array.
        check_bytes(math.prod(map(int, data.chunks)) * data.dtype.itemsize, max_pixels)


def _check_storage(data: h5py.Dataset, name: str, max_pixels: int) -> None:
    """Refuse data stored in other files, and filters that HDF5 would load as plugins."""
    how = data.id.get_create_plist()
    if how.get_external_count():
        raise Refused(f"{name} lies in another file (external storage), which is not opened")
    if data.is_virtual:
        raise Refused(f"{name} is put together from other files (virtual dataset), which are not opened")
    if how.get_layout() != h5py.h5d.CHUNKED:
        return
    filters = [how.get_filter(index)[0] for index in range(how.get_nfilters())]
    strange = [number for number in filters if number not in FILTERS]
    if strange or len(set(filters)) < len(filters):
        raise Refused(f"{name} is packed in a way that MATLAB does not use (HDF5 filters {filters})")
    if h5py.h5z.FILTER_DEFLATE in filters:
        _check_chunks(data, max_pixels)


def _check_chunks(data: h5py.Dataset, max_pixels: int) -> None:
    """Refuse chunks that decompress to more than the limit: HDF5 decompresses a chunk to its end, whatever its size."""
    limit = most_bytes(max_pixels)
    for index in range(data.id.get_num_chunks()):
        info = data.id.get_chunk_info(index)
        if info.size * MOST_PACKED <= limit:
            continue
        _, packed = data.id.read_direct_chunk(info.chunk_offset)
        unpacker, count, rest = zlib.decompressobj(), 0, packed
        while rest and not unpacker.eof:
            count += len(unpacker.decompress(rest, CHUNK))
            rest = unpacker.unconsumed_tail
            if count > limit:
                raise TooLarge(f"{data.name} unpacks to more than {limit:,} bytes")
