"""What a chain of transforms does with a file, as text: the key of what is kept on disk between runs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import data_prep

__all__ = ["item_key", "transforms_key"]

FORMAT = 1
_PACKAGES = ("torch", "monai", "numpy", "nibabel", "pydicom", "pillow", "scikit-image", "h5py")


def transforms_key(transforms: Iterable[object]) -> str | None:
    """Hexadecimal digits that identify transforms: their classes and parameters, the source code of readers and
    transforms, and the versions of the packages that these call.

    Returns:
        ``None`` if one of them has a parameter, such as a lambda, that can't be described.

    Example:
        >>> from monai.transforms import Flip, Lambda
        >>> transforms_key([Flip(0)]) == transforms_key([Flip(0)])
        True
        >>> transforms_key([Flip(0)]) == transforms_key([Flip(1)])
        False
        >>> transforms_key([Lambda(lambda x: x)]) is None
        True
    """
    try:
        described = [_described(each) for each in transforms]
    except TypeError:
        return None
    return _digest([described, FORMAT, *map(version, _PACKAGES), [_file_digest(str(file)) for file in _sources()]])


def item_key(item: Mapping[str, Any], files: Iterable[str]) -> str:
    """Hexadecimal digits that identify an item: its values, and the sizes and times of its files.

    Raises:
        OSError: a file does not exist.
        TypeError: a value can't be described.
    """
    stats = [os.stat(file) for file in files]
    return _digest([_described(dict(item)), [(stat.st_size, stat.st_mtime_ns) for stat in stats]])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _described(value: Any) -> Any:
    """As values of JSON.

    Raises:
        TypeError: it holds something that can't be described by its class and its attributes.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_described(each) for each in value]
    if isinstance(value, Mapping):
        return [[_described(key), _described(each)] for key, each in value.items()]
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, np.generic):
        return [str(value.dtype), value.item()]
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, (torch.dtype, np.dtype, os.PathLike)):
        return str(value)
    if callable(value) and hasattr(value, "__qualname__"):
        if "<" in value.__qualname__:
            raise TypeError(f"{value} has no name")
        return [value.__module__, value.__qualname__, _code_of(value.__module__)]
    if isinstance(value, np.random.RandomState):
        return None
    if not hasattr(value, "__dict__"):
        raise TypeError(f"{value} has no attributes")
    kind = type(value)
    attributes = [[name, _described(each)] for name, each in sorted(vars(value).items())]
    return [kind.__module__, kind.__qualname__, _code_of(kind.__module__), attributes]


@cache
def _sources() -> list[Path]:
    """What reads and prepares images, in this package and beside it."""
    package = Path(__file__).parents[1]
    folders = [package / name for name in ("io", "data", "transforms")]
    folders.append(Path(data_prep.__file__).parent)
    return [package / "networks" / "network_input.py", *(each for f in folders for each in sorted(f.glob("*.py")))]


def _code_of(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    return "" if file is None else _file_digest(file)


@cache
def _file_digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
