"""Data sets whose errors name the file and the cause."""

from __future__ import annotations

import copy
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, MetaTensor, get_track_meta, set_track_meta
from monai.transforms import Compose, Transform
from monai.transforms.traits import RandomizableTrait
from monai.utils import ensure_tuple

from ..config.errors import cause_of
from ..io.shards import Shards
from ..io.unreadable import UnusableItems
from .described import item_key, transforms_key
from .indexed import packed, unpacked
from .random_trial import try_random
from .views import Views

__all__ = ["CheckedDataset", "UnusableItems"]

logger = logging.getLogger(__name__)

_starting = threading.Lock()
_SHOWN = 5
# Key of an entry on disk that has the names of values that the transforms removed from the item.
_REMOVED = "-removed"


@dataclass(frozen=True)
class _OnDisk:
    """An item of the cache that is in `Shards`."""

    key: str


@dataclass(frozen=True)
class _InMemory:
    """An item of the cache: tensors by name, packed, and all else."""

    tensors: dict[str, dict[str, torch.Tensor]]
    rest: dict[str, Any]


class CheckedDataset(CacheDataset):
    """MONAI's ``CacheDataset`` with a smaller cache that lasts from run to run, and errors that name file and cause.

    MONAI's own message is "applying transform <…LoadImaged object at 0x…>". While caching, all files that can't be used
    are collected into one error.

    Tensors of cached items are packed without a loss, see `monai_kd.data.indexed.packed`. In ``cache_dir`` they are
    kept on disk, mapped into memory: the next run reads no file that has been read before, and processes share them.
    The key is the values of the item, the sizes and times of its files, and the classes, parameters and source code of
    the transforms; what has changed is read again. MONAI's ``PersistentDataset`` keeps a file for each item, unpacked,
    and does not notice that a file or a transform has changed.

    Tensors whose geometry was dropped, as by ``slice_preprocessing(track_meta=False)``, stay plain tensors through
    random transforms, which therefore can't be inverted; in threads other than the main one, MONAI's transforms make
    them ``MetaTensor`` again.

    Args:
        args, kwargs: as for ``CacheDataset``, but ``num_workers`` is 2 by default; items are dictionaries with paths in
            ``image`` and optionally ``label``.
        cache_dir: folder for all data sets and runs; ``None``: the cache is in memory only. Nothing is ever removed
            from it. A folder that can't be written to is logged as a warning.
        views: number of different random views of an item, which repeat in this order from epoch to epoch, see `Views`;
            ``None``: every epoch has new ones.

    Raises:
        ValueError: ``views`` is less than 1, a transform draws random numbers that it can't repeat, or a random one
            fails, see `monai_kd.data.random_trial.try_random`.
        UnusableItems: a transform raised ``ValueError`` or ``OSError``: at construction for cached items, otherwise
            when the item is accessed.
        RuntimeError: a transform raised another error; the message names the file too.
    """

    def __init__(
        self, *args: Any, cache_dir: str | Path | None = None, views: int | None = None, **kwargs: Any
    ) -> None:
        self._cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()
        self._shards: Shards | None = None
        super().__init__(*args, **{"num_workers": 2, **kwargs})
        self.views = None if views is None else Views(self.transform, views)
        self._try_random()

    # While caching: the errors of items, by index; ``None`` otherwise.
    _unusable: dict[int, Exception] | None = None

    def _fill_cache(self, indices: Any = None) -> list:
        self._unusable = {}
        self._open_shards()
        try:
            cache = super()._fill_cache(indices)
            unusable = [self._unusable[index] for index in sorted(self._unusable)]
        finally:
            self._unusable = None
        if unusable:
            more = f"\n… and {len(unusable) - _SHOWN} more" if len(unusable) > _SHOWN else ""
            head = f"{len(unusable)} of {len(self.data)} items can't be used:\n" if len(unusable) > 1 else ""
            raise UnusableItems(head + "\n".join(map(str, unusable[:_SHOWN])) + more) from unusable[0].__cause__
        self._flush()
        return cache

    def _try_random(self) -> None:
        first = self.transform.get_index_of_first(runs_each_time) if isinstance(self.transform, Compose) else None
        if first is None or self.hash_as_key or not self.cache_num or not self._cache:
            return
        item, cached = self.data[0], self._cache[0]
        if cached is not None:  # as it is before its first access with ``runtime_cache``
            kept = isinstance(cached, (_OnDisk, _InMemory))
            prepared = self._restored(item, cached) if kept else copy.deepcopy(cached)
            try_random(self.transform.transforms[first:], prepared, _item_name(item))

    def _open_shards(self) -> None:
        self._shards = None
        if self._cache_dir is None or not isinstance(self.transform, Compose) or self.cache_num == 0:
            return
        kept = self.transform.flatten().transforms[: self.transform.get_index_of_first(runs_each_time)]
        key = transforms_key(kept)
        if key is None:
            logger.warning("cache_dir is not used: a transform has a parameter that can't be described.")
            return
        try:
            self._cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            logger.warning("cache_dir: prepared slices are not kept for the next run: %s", error)
            return
        self._shards = Shards(self._cache_dir / key)
        self._found = len(self._shards)

    def _flush(self) -> None:
        shards = self._shards
        if shards is None or len(shards) == self._found:
            return
        try:
            shards.flush()
        except OSError as error:
            # They stay in memory.
            logger.warning("cache_dir: prepared slices are not kept for the next run: %s", error)
            return
        line = "cache_dir: %d more prepared slices are kept in %s (%.2f GB in all); delete it when no run needs them."
        logger.info(line, len(shards) - self._found, shards.folder, shards.nbytes / 1e9)

    def _load_cache_item(self, idx: int) -> Any:
        # Called in a thread, while caching. Each thread makes torch's pool of threads known to itself with its first
        # operation; where several do so at once, torch was seen to end with "Invalid thread pool".
        with _starting:
            torch.get_num_threads()
        try:
            return self._cached(self.data[idx], lambda: super(CheckedDataset, self)._load_cache_item(idx))
        except Exception as error:
            named = _named(error, self.data[idx])
            if self._unusable is None or not isinstance(named, UnusableItems):
                raise named from error
            named.__cause__ = error
            self._unusable[idx] = named
            return None

    def _cached(self, item: Any, prepare: Callable[[], Any]) -> Any:
        """What the cache holds of an item."""
        key = None
        if self._shards is not None and isinstance(item, Mapping):
            key = item_key(item, _files(item))
            if key in self._shards:
                return _OnDisk(key)
        found = prepare()
        # Items with geometry, and lists of patches, are kept as they are.
        if (
            self.hash_as_key
            or not isinstance(found, Mapping)
            or any(isinstance(each, MetaTensor) for each in found.values())
        ):
            return found
        tensors = {name: packed(each) for name, each in found.items() if isinstance(each, torch.Tensor)}
        rest = {name: each for name, each in found.items() if name not in tensors}
        if self._shards is None or key is None or any(item.get(name, self) is not rest[name] for name in rest):
            return _InMemory(tensors, rest)
        removed = json.dumps([name for name in item if name not in found]).encode()
        flat = {f"{name}/{part}": each for name, parts in tensors.items() for part, each in parts.items()}
        try:
            self._shards.add(key, {**flat, _REMOVED: torch.frombuffer(bytearray(removed), dtype=torch.uint8)})
        except OSError as error:
            logger.warning("cache_dir: prepared slices are not kept for the next run: %s", error)
            self._shards.shard_bytes = sys.maxsize
        return _OnDisk(key)

    def _restored(self, item: Any, cached: _OnDisk | _InMemory) -> dict[str, Any]:
        """A new dictionary with new tensors."""
        if isinstance(cached, _InMemory):
            return {**cached.rest, **{name: unpacked(parts) for name, parts in cached.tensors.items()}}
        assert self._shards is not None, "an item on disk has a place"
        flat = self._shards.get(cached.key)
        removed = json.loads(bytes(flat.pop(_REMOVED).tolist()))
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        for name, each in flat.items():
            of, _, part = name.rpartition("/")
            tensors.setdefault(of, {})[part] = each
        kept = {name: value for name, value in item.items() if name not in removed}
        return {**kept, **{name: unpacked(parts) for name, parts in tensors.items()}}

    def _cached_at(self, index: int) -> Any:
        if self.hash_as_key or index >= self.cache_num or self._cache is None:
            return None
        if self._cache[index] is None:
            # ``runtime_cache``: filled on first access.
            self._cache[index] = self._load_cache_item(index)
        return self._cache[index]

    def _transform(self, index: int) -> Any:
        if self.views is not None:
            self.views.choose(index % len(self))
        try:
            cached = self._cached_at(index % len(self))
            if isinstance(cached, (_OnDisk, _InMemory)):
                return self._finished(self._restored(self.data[index], cached))
            simple = type(self.transform) is Compose and not self.transform.lazy
            if cached is None and not self.hash_as_key and simple:
                first = self.transform.get_index_of_first(runs_each_time)
                return self._finished(self.transform(self.data[index], end=first))
            return super()._transform(index)
        except UnusableItems:
            raise
        except Exception as error:
            raise _named(error, self.data[index]) from error

    def _finished(self, item: Any) -> Any:
        """An item after the transforms that run each time."""
        first = self.transform.get_index_of_first(runs_each_time)
        if first is None:
            return item
        # Tensors without geometry stay so: without tracking it, random transforms take a fifth less time.
        values = item.values() if isinstance(item, Mapping) else []
        tensors = [each for each in values if isinstance(each, torch.Tensor)]
        plain = tensors and not any(isinstance(each, MetaTensor) for each in tensors)
        # MONAI's switch holds for all threads: it is left alone where several may read.
        alone = threading.current_thread() is threading.main_thread()
        with _untracked() if plain and alone else nullcontext():
            return self.transform(item, start=first)


@contextmanager
def _untracked() -> Iterator[None]:
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def _named(error: Exception, item: Any) -> Exception:
    cause = cause_of(error)
    files = _files(item) if isinstance(item, Mapping) else []
    expected = isinstance(cause, (ValueError, OSError))
    reason = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    if not any(file in reason for file in files):
        reason = f"{_item_name(item)}: {reason}"
    return UnusableItems(reason) if expected else RuntimeError(reason)


def _item_name(item: Any) -> str:
    return " with ".join(_files(item)) if isinstance(item, Mapping) and _files(item) else str(item)


def _files(item: Mapping[str, Any]) -> list[str]:
    return [str(path) for key in ("image", "label") if key in item for path in ensure_tuple(item[key])]


def runs_each_time(transform: Any) -> bool:
    """Whether a transform is not cached, nor what follows it, as in MONAI's ``CacheDataset``."""
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)
