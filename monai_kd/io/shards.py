"""A cache on disk of named tensors by key, many keys in one file."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .atomic import atomic_write

__all__ = ["Shards"]

SUFFIX = ".safetensors"


class Shards:
    """Named tensors by key, in files of some hundred megabytes that are written once and mapped into memory.

    New entries are collected in memory, and written as one file when they are ``shard_bytes`` large, by `flush`, and
    when the object or the process ends. A file appears complete or not at all and is never changed, so any number of
    processes, also on several computers with a common folder, may read and fill one cache without a lock, and a process
    that is killed loses only what it has not written. What two processes compute at the same time may be stored twice.

    The files are safetensors. LMDB and HDF5 would hold everything in one file, but LMDB is not safe on network file
    systems, an HDF5 file that is being written can't be read by others and is damaged when its writer is killed, and
    zarr writes a file for each chunk.

    Args:
        folder: made when needed.
        shard_bytes: size at which a file is written.

    Raises:
        ValueError: a file in the folder can't be read; delete it.

    Example:
        >>> import tempfile
        >>> cache = Shards(tempfile.mkdtemp())
        >>> cache.add("a", {"x": torch.ones(2)})
        >>> cache.flush()
        >>> Shards(cache.folder).get("a")
        {'x': tensor([1., 1.])}
    """

    def __init__(self, folder: str | Path, shard_bytes: int = 2**27) -> None:
        self.folder, self.shard_bytes = Path(folder).expanduser(), int(shard_bytes)
        self._pending: dict[str, dict[str, torch.Tensor]] = {}
        self._where: dict[str, tuple[Path, list[str]]] = {}
        self._seen: set[Path] = set()
        self._begin()
        self.refresh()

    def _begin(self) -> None:
        self._open: dict[Path, Any] = {}
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._pending_bytes = sum(map(_size, self._pending.values()))
        weakref.finalize(self, _write, self.folder, self._pending, self._process)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("folder", "shard_bytes", "_where", "_seen")
        return {name: vars(self)[name] for name in kept} | {"_pending": dict(self._pending)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def __contains__(self, key: str) -> bool:
        return key in self._pending or key in self._where

    def __len__(self) -> int:
        return len(self._where) + sum(key not in self._where for key in self._pending)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self._seen if path.is_file())

    def get(self, key: str) -> dict[str, torch.Tensor]:
        """The tensors of a key, on the CPU. They are views of a file and must not be changed in place.

        Raises:
            KeyError: there is no such key.
            ValueError: the file can't be read.
        """
        with self._lock:
            if key in self._pending:
                return dict(self._pending[key])
            path, names = self._where[key]
            file = self._file(path)
            return {name: file.get_tensor(f"{key}/{name}") for name in names}

    def add(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Add an entry, unless the key is there already.

        Args:
            key: text without ``/``.
            tensors: copied.
        """
        with self._lock:
            if key in self:
                return
            # Copied, because a row of a batch would keep the whole batch in memory.
            entry = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
            self._pending[key] = entry
            self._pending_bytes += _size(entry)
            if self._pending_bytes >= self.shard_bytes:
                self.flush()

    def flush(self) -> None:
        """Write the new entries that no other process has written since.

        Raises:
            OSError: the disk is full, or the folder can't be written to.
        """
        with self._lock:
            if self._process != os.getpid():
                # A worker of a data loader has a copy of what its parent will write.
                return
            self.refresh()
            for key in self._where.keys() & self._pending.keys():
                del self._pending[key]
            _write(self.folder, self._pending, self._process)
            self._pending_bytes = 0
            self.refresh()

    def refresh(self) -> None:
        """Find the entries that other processes have written since."""
        with self._lock:
            for path in sorted(set(self.folder.glob(f"*{SUFFIX}")) - self._seen):
                if path.name.startswith("."):
                    continue
                for name in self._file(path).keys():  # noqa: SIM118 - a safetensors file is no mapping
                    key, _, own = name.partition("/")
                    found = self._where.setdefault(key, (path, []))
                    if found[0] == path:
                        found[1].append(own)
                self._seen.add(path)

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path} can't be read ({error}): delete it; it is made again.") from error
        return self._open[path]


def _size(entry: Mapping[str, torch.Tensor]) -> int:
    return sum(value.nbytes for value in entry.values())


def _write(folder: Path, pending: dict[str, dict[str, torch.Tensor]], process: int) -> None:
    """Write the entries as one file, and empty the dictionary."""
    if not pending or process != os.getpid():
        return
    flat = {f"{key}/{name}": value for key, entry in pending.items() for name, value in entry.items()}
    with atomic_write(folder / f"shard-{uuid.uuid4().hex[:16]}{SUFFIX}", needed=_size(flat)) as temporary:
        save_file(flat, temporary)
    pending.clear()
