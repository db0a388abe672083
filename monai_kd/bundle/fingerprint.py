"""What identifies the training of a teacher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch

from ..data import datalist_path
from ..transforms import NORMALIZATION_OF_VOLUMES

__all__ = ["fingerprint"]

_BEFORE = {
    **{"labelled_share": 1, "batch_augmentation": [], "allow_outside": False},
    "normalization": NORMALIZATION_OF_VOLUMES,
}
_FREE = {"workers": 0, "cache_rate": 1.0, "amp": True}


def fingerprint(run: Mapping[str, Any], by_amp: bool = False) -> str:
    """Ten hexadecimal digits that identify the settings and the data of a teacher's training.

    Args:
        run: its settings.
        by_amp: whether ``amp`` is one of them, as it was in earlier versions.
    """
    # Without the device, which differs between the processes of one run, and the folders of the data and its cache.
    folders = ("dataset_dir", "negatives_dir")
    # By these, a teacher is trained in less time or memory, and not otherwise, but for the digits of `amp`.
    free = {name: value for name, value in _FREE.items() if name in run and not (by_amp and name == "amp")}
    run = {**run, **free}
    # These change nothing: teachers that were trained before there were such settings stay known.
    unchanged = {name for name, value in _BEFORE.items() if run.get(name, value) == value}
    settings = {k: value for k, value in run.items() if k not in {"device", "cache_dir", *folders, *unchanged}}
    data = b"".join(datalist_path(run[name]).read_bytes() for name in folders if run.get(name))
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode() + data).hexdigest()[:10]


def _plain(value: Any) -> Any:
    """An object, such as a transform, as its class and parameters: its ``repr`` has an address that varies by run."""
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_names, list(value.co_consts)]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, partial):
        return [_plain(value.func), _keyed(value.args), _keyed(value.keywords)]
    if hasattr(value, "__qualname__"):
        # What is called "<lambda>", or is made within a function, is known by what it does.
        own = isinstance(value, FunctionType) and "<" in value.__qualname__
        return [value.__qualname__, *_code(value)] if own else value.__qualname__
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if not hasattr(value, "__dict__"):
        return str(value)
    parameters = {k: _keyed(v) for k, v in vars(value).items() if not isinstance(v, np.random.RandomState)}
    return [type(value).__qualname__, parameters]


def _code(function: FunctionType) -> list[Any]:
    """What it does, its defaults, and what it takes from around it."""
    around = [cell.cell_contents for cell in function.__closure__ or ()]
    return [_plain(function.__code__), *(_keyed(each) for each in (function.__defaults__ or (), around))]


def _keyed(value: Any) -> Any:
    """With text in the place of keys that JSON does not take, as sequences of kornia have."""
    if isinstance(value, Mapping):
        plain = (str, int, float, bool, type(None))
        return {key if isinstance(key, plain) else str(key): _keyed(each) for key, each in value.items()}
    return [_keyed(each) for each in value] if isinstance(value, (list, tuple)) else value
