"""Raw files for the tests, written independently of data_prep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def slice_fields(rows: int = 40, cols: int = 56, **changes: Any) -> dict[str, Any]:
    """Fields of a good slice as MATLAB shows them: a box of columns 11 to 20 and rows 6 to 25 as tumour."""
    ramp = np.arange(rows * cols, dtype=np.int16).reshape(rows, cols)
    mask = np.zeros((rows, cols), np.uint8)
    mask[5:25, 10:20] = 1
    border = [10.5, 5.5, 20.5, 5.5, 20.5, 25.5, 10.5, 25.5]
    fields = {"label": 1.0, "PID": "100360", "image": ramp, "tumorBorder": np.array(border)[:, None], "tumorMask": mask}
    fields.update(changes)
    return {name: value for name, value in fields.items() if value is not None}


def write_v73(path: Path, fields: dict[str, Any], at_root: bool = False, user_block: int = 512) -> Path:
    """A v7.3 file: arrays are stored transposed, text as character codes, as MATLAB does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=user_block, libver="earliest") as file:
        group = file if at_root else file.create_group("cjdata")
        for name, value in fields.items():
            if isinstance(value, str):
                data = group.create_dataset(name, data=np.array([[ord(c)] for c in value], "u2"))
                data.attrs["MATLAB_class"] = np.bytes_("char")
            elif np.size(value) == 0:
                data = group.create_dataset(name, data=np.array(np.shape(value), "u8"))
                data.attrs["MATLAB_empty"] = np.uint8(1)
            else:
                group.create_dataset(name, data=np.atleast_2d(value).T)
    return path


def write_cvind(path: Path, folds: list[float]) -> Path:
    """A cvind.mat as in the Figshare data set."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cvind"] = np.array(folds, float)[:, None]
    return path
