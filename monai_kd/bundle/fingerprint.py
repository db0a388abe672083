"""What identifies the training of a teacher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..data import datalist_path
from ..transforms import NORMALIZATION_OF_VOLUMES

__all__ = ["fingerprint"]

_BEFORE = {"labelled_share": 1, "batch_augmentation": [], "normalization": NORMALIZATION_OF_VOLUMES}


def fingerprint(run: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that identify the settings and the data of a teacher's training."""
    # Without the device, which differs between the processes of one run, and the folders of the data and its cache.
    folders = ("dataset_dir", "negatives_dir")
    # These change nothing: teachers that were trained before there were such settings stay known.
    unchanged = {name for name, value in _BEFORE.items() if run.get(name, value) == value}
    settings = {k: value for k, value in run.items() if k not in {"device", "cache_dir", *folders, *unchanged}}
    data = b"".join(datalist_path(run[name]).read_bytes() for name in folders if run.get(name))
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode() + data).hexdigest()[:10]


def _plain(value: Any) -> Any:
    """An object, such as a transform, as its class and parameters: its ``repr`` has an address that varies by run."""
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if not hasattr(value, "__dict__"):
        return str(value)
    parameters = {k: _keyed(v) for k, v in vars(value).items() if not isinstance(v, np.random.RandomState)}
    return [type(value).__qualname__, parameters]


def _keyed(value: Any) -> Any:
    """With text in the place of keys that JSON does not take, as sequences of kornia have."""
    if isinstance(value, Mapping):
        plain = (str, int, float, bool, type(None))
        return {key if isinstance(key, plain) else str(key): _keyed(each) for key, each in value.items()}
    return [_keyed(each) for each in value] if isinstance(value, (list, tuple)) else value
