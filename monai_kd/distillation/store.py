"""A cache of teacher outputs on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from data_prep.disk import check_writable

from ..io.checkpoints import read_checkpoint, save_checkpoint

__all__ = ["TeacherStore", "fingerprint"]

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
    The weights of the teacher, its taps and the precision are part of the key too, so that outputs can't be mixed up.
    Outputs are stored in the precision of the teacher, so losses equal those with a running teacher, up to rounding
    errors due to another composition of its batches.

    The cache saves time when images repeat, as with flips along one axis as the only augmentation: two entries per
    slice. Entries are never removed; delete the folder after its last run.

    Args:
        folder: made when needed; processes may share it.

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

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        # Before any training, not after its first batch.
        check_writable(self.folder)

    def answer(self, teacher: str, image: torch.Tensor, run: Callable[[torch.Tensor], Outputs]) -> Outputs:
        """Logits and features of a batch; the teacher runs only on the images that are not cached.

        Args:
            teacher: its `fingerprint`.
            image: (B, C, spatial axes …).
            run: the teacher: a batch of images to logits (B, …) and name to features (B, …), without gradients.

        Raises:
            ValueError: an entry of the store can't be read; delete it.
        """
        kind = image.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else image.dtype
        folder = self.folder / f"{teacher}-{str(precision).removeprefix('torch.')}"
        names = [hashlib.sha256(repr(tuple(each.shape)).encode() + _bytes(each)).hexdigest()[:32] for each in image]
        files = [folder / f"{name}.pt" for name in names]
        absent = [row for row, file in enumerate(files) if not file.is_file()]
        fresh: dict[int, dict[str, torch.Tensor]] = {}
        if absent:
            logits, features = run(image[absent])
            for place, row in enumerate(absent):
                # Cloned, because torch saves a row of a batch with the storage of the whole batch.
                fresh[row] = {name: value[place].clone() for name, value in {"": logits, **features}.items()}
                save_checkpoint(fresh[row], files[row])
        rows = [fresh[row] if row in fresh else read_checkpoint(files[row], image.device) for row in range(len(files))]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return stacked.pop(""), stacked
