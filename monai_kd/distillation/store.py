"""A cache of teacher outputs on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from data_prep.disk import check_writable

from ..io.shards import Shards

__all__ = ["TeacherStore", "fingerprint"]

logger = logging.getLogger(__name__)

Outputs = tuple[torch.Tensor, dict[str, torch.Tensor]]


def fingerprint(network: nn.Module, paths: Mapping[str, str]) -> str:
    """Twelve hexadecimal digits that identify a network and its taps.

    They change with any weight, any statistic, and any plain value that a module holds, such as a stride or the size to
    which it resizes its image.

    Example:
        >>> net = nn.Conv2d(1, 1, 1)
        >>> before = fingerprint(net, {})
        >>> _ = nn.init.zeros_(net.weight)
        >>> before == fingerprint(net, {})
        False
    """
    digest = hashlib.sha256(repr(sorted(paths.items())).encode())
    for name, module in network.named_modules():
        plain = {key: value for key, value in vars(module).items() if _is_plain(value)}
        digest.update(repr((name, type(module).__name__, sorted(plain.items()))).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()[:12]


def _is_plain(value: object) -> bool:
    # Lists of tensors, as MONAI's DynUNet keeps of its last image, do not identify a network.
    if isinstance(value, (list, tuple)):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, (int, float, str))


def _bytes(tensor: torch.Tensor) -> memoryview:
    # Viewed as uint8, because numpy has no bfloat16.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


class TeacherStore:
    """A cache of the outputs of frozen teachers on disk, with the content of the image as the key.

    A frozen teacher returns the same outputs for the same image in every epoch and every run. The key is a hash of the
    image as the network gets it, so a flipped slice has an entry of its own, without any record of the augmentation.
    The weights of the teacher, its taps and the precision are part of the key too, so that outputs can't be mixed up:
    a teacher that has changed runs again, into a folder of its own.

    Outputs are stored in half precision. Those of a teacher in half precision are stored as they are. Those in float32
    are rounded to float16, by at most 2⁻¹¹ of the value (or 3·10⁻⁸); tensors with larger values than float16 has stay
    in float32. Values are rounded the first time too, so that all epochs and runs have the same.

    Many entries are one file, see `monai_kd.io.shards.Shards`: an interrupted run goes on where it was, and several
    runs and processes may share the folder. The cache saves time when images repeat, as with flips along one axis as
    the only augmentation: two entries per slice. Entries are never removed; delete the folder after its last run.

    Args:
        folder: made when needed.
        expected: number of entries that one teacher will have, for the log; ``None`` if it is not known.
        half: whether to round float32.

    Raises:
        WriteError: the folder can't be made or written to.

    Example:
        >>> import tempfile
        >>> store, net = TeacherStore(tempfile.mkdtemp()), nn.Conv2d(1, 1, 1)
        >>> with torch.no_grad():
        ...     image = torch.ones(2, 1, 4, 4)
        ...     first, _ = store.answer("net", image, lambda x: (net(x), {}))
        ...     again, _ = store.answer("net", image, lambda x: 1 / 0)
        >>> torch.equal(first, again)
        True
    """

    def __init__(self, folder: str | Path, expected: int | None = None, half: bool = True) -> None:
        self.folder, self.expected, self.half = Path(folder).expanduser(), expected, bool(half)
        self._shards: dict[str, Shards] = {}
        self._written: dict[str, int] = {}
        self._warned = False
        # How many images a teacher was shown.
        self.computed = 0
        # Before any training, not after its first batch.
        check_writable(self.folder)

    def answer(self, teacher: str, image: torch.Tensor, run: Callable[[torch.Tensor], Outputs]) -> Outputs:
        """Logits and features of a batch; the teacher runs only on the images that are not cached.

        Args:
            teacher: its `fingerprint`.
            image: (B, C, spatial axes …).
            run: the teacher: a batch of images to logits (B, …) and name to features (B, …), without gradients.

        Raises:
            ValueError: a file of the store can't be read; delete it.
        """
        kind = image.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else image.dtype
        shards = self._of(f"{teacher}-{str(precision).removeprefix('torch.')}")
        keys = [_key(each) for each in image.cpu()]
        absent = [row for row, key in enumerate(keys) if key not in shards]
        if absent:
            logits, features = run(image if len(absent) == len(keys) else image[absent])
            self.computed += len(absent)
            for place, row in enumerate(absent):
                outputs = {"": logits, **features}
                shards.add(keys[row], dict(self._packed(name, value[place]) for name, value in outputs.items()))
        entries = [shards.get(key) for key in keys]
        names = [name.removesuffix(_LAST) for name in entries[0]]
        stacked = {name: _batch(name, entries, precision, image) for name in names}
        return stacked.pop(""), stacked

    def flush(self) -> None:
        """Write what is still in memory, and log how far the store is; called after each epoch.

        Raises:
            OSError: the disk is full, or the folder can't be written to.
        """
        for name, shards in self._shards.items():
            shards.flush()
            if len(shards) > self._written[name]:
                line = "teacher_store: %d%s outputs, %.2f GB, in %s"
                of = f" of {self.expected}" if self.expected is not None and len(shards) <= self.expected else ""
                logger.info(line, len(shards), of, shards.nbytes / 1e9, shards.folder)
            self._written[name] = len(shards)
        self._warn_of_others()

    @property
    def complete(self) -> bool:
        """Whether there are as many outputs as expected of each teacher that was asked; false where none was yet."""
        expected = self.expected
        return bool(self._shards) and expected is not None and all(len(e) >= expected for e in self._shards.values())

    def refresh(self) -> None:
        """Find the outputs that other processes have written since."""
        for shards in self._shards.values():
            shards.refresh()

    def _of(self, name: str) -> Shards:
        if name not in self._shards:
            self._shards[name] = Shards(self.folder / name)
            self._written[name] = len(self._shards[name])
        return self._shards[name]

    def _warn_of_others(self) -> None:
        if self._warned:
            return
        self._warned = True
        others = [path for path in self.folder.glob("*/*") if path.is_file() and path.parent.name not in self._shards]
        if others:
            line = "teacher_store: %s also holds %.2f GB of other teachers, taps or precisions (%s): delete them when "
            size, names = sum(path.stat().st_size for path in others) / 1e9, sorted({o.parent.name for o in others})
            logger.warning(line + "no run needs them.", self.folder, size, ", ".join(names))

    def _packed(self, name: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
        # Features of channels_last networks keep their layout, in which the next layer is quick.
        if value.ndim > 2 and value.shape[0] > 1 and value.movedim(0, -1).is_contiguous():
            name, value = f"{name}{_LAST}", value.movedim(0, -1)
        if self.half and value.dtype is torch.float32 and not value.abs().amax() > torch.finfo(torch.float16).max:
            value = value.half()
        return name, value


_LAST = "@channels_last"


def _batch(
    name: str, entries: list[dict[str, torch.Tensor]], precision: torch.dtype, image: torch.Tensor
) -> torch.Tensor:
    last = all(name + _LAST in entry for entry in entries)
    rows = [entry[name + _LAST] if name + _LAST in entry else entry[name] for entry in entries]
    if not last:
        # Runs with another memory format may have filled the folder too.
        pairs = zip(entries, rows, strict=True)
        rows = [row.movedim(-1, 0) if name + _LAST in entry else row for entry, row in pairs]
    rounded = rows[0].dtype is torch.float16 and precision is not torch.float16
    rows = [row.float() for row in rows] if len({row.dtype for row in rows}) > 1 else rows
    batch = torch.empty((len(rows), *rows[0].shape), dtype=rows[0].dtype, pin_memory=image.is_cuda)
    torch.stack(rows, out=batch)
    batch = batch.to(image.device, torch.float32 if rounded else None, non_blocking=True)
    return batch.movedim(-1, 1) if last else batch


def _key(image: torch.Tensor) -> str:
    # With the channels last, which needs no copy of an image of a channels_last batch.
    values = image.movedim(0, -1) if image.ndim > 1 else image
    return hashlib.sha256(repr(tuple(image.shape)).encode() + _bytes(values)).hexdigest()[:32]
