"""`.mat` files that point elsewhere, or are larger than they look; the image is what is wrong in each."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
from raw_files import slice_fields, write_v73
from scipy.io import savemat

SECRET = b"root:x:0:0:" + bytes(range(256)) * 16


def secret_file(folder: Path) -> Path:
    path = folder / "secret"
    path.write_bytes(SECRET)
    return path


def _without_image(folder: Path) -> Path:
    return write_v73(folder / "1.mat", slice_fields(image=None))


def external_storage(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        where = [(str(secret_file(folder)), 0, 1024)]
        file["cjdata"].create_dataset("image", (32, 32), "u1", external=where)
    return path


def external_link(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as file:
        file["pixels"] = slice_fields()["image"].T
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["cjdata/image"] = h5py.ExternalLink(str(folder / "other.h5"), "pixels")
    return path


def external_struct(folder: Path) -> Path:
    write_v73(folder / "whole.mat", slice_fields())
    path = folder / "1.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cjdata"] = h5py.ExternalLink(str(folder / "whole.mat"), "cjdata")
    return path


def soft_link(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["pixels"] = slice_fields()["image"].T
        file["cjdata/image"] = h5py.SoftLink("/pixels")
    return path


def virtual(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as file:
        file["pixels"] = slice_fields()["image"].T
    path = _without_image(folder)
    layout = h5py.VirtualLayout((56, 40), "i2")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "pixels", (56, 40))
    with h5py.File(path, "a") as file:
        file["cjdata"].create_virtual_dataset("image", layout)
    return path


def references(folder: Path) -> Path:
    """A MATLAB cell: what it holds lies elsewhere in the file."""
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["#refs#/a"] = slice_fields()["image"].T
        data = file["cjdata"].create_dataset("image", (1, 1), h5py.ref_dtype)
        data[0, 0] = file["#refs#/a"].ref
        data.attrs["MATLAB_class"] = np.bytes_("cell")
    return path


def regions(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["a"] = slice_fields()["image"].T
        data = file["cjdata"].create_dataset("image", (1, 1), h5py.regionref_dtype)
        data[0, 0] = file["a"].regionref[2:4, 2:4]
    return path


def plugin_filter(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((8, 8))
        how.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # zstandard
        space = h5py.h5s.create_simple((56, 40))
        h5py.h5d.create(file["cjdata"].id, b"image", h5py.h5t.NATIVE_INT16, space, how)
    return path


def lists(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["cjdata"].create_dataset("image", (4, 4), h5py.vlen_dtype("i2"))
    return path


def complex_numbers(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["cjdata/image"] = np.ones((4, 4), "c8")
    return path


def sparse(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        group = file.create_group("cjdata/image")
        group.attrs["MATLAB_sparse"] = np.uint64(40)
        group["data"], group["ir"], group["jc"] = np.ones(3), np.arange(3), np.arange(57)
    return path


def struct_array(folder: Path) -> Path:
    """As MATLAB writes cjdata(1:3): every field is an array of references."""
    path = folder / "1.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in {"label": np.ones((1, 1)), "image": slice_fields()["image"].T}.items():
            data = file.create_dataset(f"cjdata/{name}", (3, 1), h5py.ref_dtype)
            for number in range(3):
                file[f"#refs#/{name}{number}"] = value
                data[number, 0] = file[f"#refs#/{name}{number}"].ref
    return path


def committed_type(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["cjdata/image"] = np.dtype("i4")
    return path


ELSEWHERE = {
    external_storage: "image lies in another file .external storage.",
    external_link: "image is a link to another file",
    external_struct: "cjdata is a link to another file",
    soft_link: "image is a soft link",
    virtual: "put together from other files",
    references: "image is a cell array",
    regions: "image holds no real numbers .references or lists.",
    plugin_filter: r"a way that MATLAB does not use .HDF5 filters \[32015\]",
    lists: "references or lists",
    complex_numbers: "image holds no real numbers .complex numbers.",
    sparse: "image is a sparse matrix",
    struct_array: "cjdata is an array of 3 structs: save each slice as a file of its own",
    committed_type: "image is no array",
}


def fill_values(folder: Path, side: int = 20_000) -> Path:
    """Pixels that were never written, in a file of some kilobytes."""
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        file["cjdata"].create_dataset("image", (side, side), "f8", chunks=(1000, 1000), compression="gzip", fillvalue=3)
    return path


def large_chunk(folder: Path) -> Path:
    """A small array in a chunk that is none."""
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        options = {"chunks": (20_000, 20_000), "maxshape": (None, None), "compression": "gzip"}
        file["cjdata"].create_dataset("image", (56, 40), "i2", **options)
    return path


def long_chunk(folder: Path, size: int) -> Path:
    """A small array whose packed chunk goes on and on."""
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        data = file["cjdata"].create_dataset("image", (56, 40), "i2", chunks=(56, 40), compression="gzip")
        data.id.write_direct_chunk((0, 0), zlib.compress(bytes(size)))
    return path


def letters(folder: Path) -> Path:
    path = _without_image(folder)
    with h5py.File(path, "a") as file:
        data = file["cjdata"].create_dataset("image", (9000, 1), "u2", fillvalue=65)
        data.attrs["MATLAB_class"] = np.bytes_("char")
    return path


def old(folder: Path, side: int = 4000) -> Path:
    path = folder / "1.mat"
    savemat(path, {"cjdata": slice_fields(image=np.zeros((side, side)))}, do_compression=True)
    return path


def old_at_root(folder: Path, side: int = 4000) -> Path:
    path = folder / "1.mat"
    savemat(path, slice_fields(image=np.zeros((side, side))), do_compression=True)
    return path


def old_with_rest(folder: Path, size: int) -> Path:
    """A slice beside which another variable unpacks to that many bytes, whatever its header says."""
    buffer = io.BytesIO()
    savemat(buffer, {"cjdata": slice_fields()})
    packed = zlib.compress(struct.pack("<II", 14, 8) + bytes(size))
    path = folder / "1.mat"
    path.write_bytes(buffer.getvalue() + struct.pack("<II", 15, len(packed)) + packed)
    return path
