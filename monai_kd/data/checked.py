"""A data set whose errors name the file and the cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import CacheDataset

from ..io.unreadable import UnusableItems

__all__ = ["CheckedDataset", "UnusableItems"]

_SHOWN = 5


class CheckedDataset(CacheDataset):
    """MONAI's ``CacheDataset``, whose errors name the file and the cause.

    MONAI says "applying transform <…LoadImaged object at 0x…>". All files that can't be used are found while caching,
    and named at once.

    Args:
        args, kwargs: as for ``CacheDataset``, with two threads that fill the cache; items are dictionaries with paths
            in ``image`` and perhaps ``label``.

    Raises:
        UnusableItems: when constructed, if items are cached, otherwise when an item is asked for: a transform raised
            ``ValueError`` or ``OSError``.
        RuntimeError: a transform raised something else; this too names the file.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"num_workers": 2, **kwargs})

    # Items that could not be cached, by index; ``None`` when nothing is being cached.
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
        # In a thread, while caching.
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
