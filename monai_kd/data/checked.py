"""Data sets whose errors name the file and the cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import CacheDataset

from ..io.unreadable import UnusableItems

__all__ = ["CheckedDataset", "UnusableItems"]

_SHOWN = 5


class CheckedDataset(CacheDataset):
    """MONAI's ``CacheDataset``, whose errors name the file and the cause.

    MONAI's own message is "applying transform <…LoadImaged object at 0x…>". While caching, all files that can't be used
    are collected into one error.

    Args:
        args, kwargs: as for ``CacheDataset``, but ``num_workers`` is 2 by default; items are dictionaries with paths in
            ``image`` and optionally ``label``.

    Raises:
        UnusableItems: a transform raised ``ValueError`` or ``OSError``: at construction for cached items, otherwise
            when the item is accessed.
        RuntimeError: a transform raised another error; the message names the file too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"num_workers": 2, **kwargs})

    # While caching: the errors of items, by index; ``None`` otherwise.
    _unusable: dict[int, Exception] | None = None

    def _fill_cache(self, indices: Any = None) -> list:
        self._unusable = {}
        try:
            cache = super()._fill_cache(indices)
            unusable = [self._unusable[index] for index in sorted(self._unusable)]
        finally:
            self._unusable = None
        if unusable:
            more = f"\n… and {len(unusable) - _SHOWN} more" if len(unusable) > _SHOWN else ""
            head = f"{len(unusable)} of {len(self.data)} items can't be used:\n" if len(unusable) > 1 else ""
            raise UnusableItems(head + "\n".join(map(str, unusable[:_SHOWN])) + more) from unusable[0].__cause__
        return cache

    def _load_cache_item(self, idx: int) -> Any:
        # Called in a thread, while caching.
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            named = _named(error, self.data[idx])
            if self._unusable is None or not isinstance(named, UnusableItems):
                raise named from error
            named.__cause__ = error
            self._unusable[idx] = named
            return None

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except UnusableItems:
            raise
        except Exception as error:
            raise _named(error, self.data[index]) from error


def _named(error: Exception, item: Any) -> Exception:
    cause: BaseException = error
    while type(cause) is RuntimeError and str(cause).startswith("applying transform ") and cause.__cause__ is not None:
        cause = cause.__cause__
    paths = [item[key] for key in ("image", "label") if key in item] if isinstance(item, Mapping) else []
    files = [str(path) for each in paths for path in (each if isinstance(each, (list, tuple)) else [each])]
    expected = isinstance(cause, (ValueError, OSError))
    reason = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    if not any(file in reason for file in files):
        reason = f"{' with '.join(files) or item}: {reason}"
    return UnusableItems(reason) if expected else RuntimeError(reason)
