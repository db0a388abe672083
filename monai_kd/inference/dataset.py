"""A data set that goes on after a file that can't be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset, list_data_collate
from monai.utils import ensure_tuple
from monai.utils.enums import CommonKeys as Keys

from ..io.unreadable import reason_of
from .preparation import Preparation
from .system_errors import unread_reason

__all__ = ["SOURCE", "ReadableDataset", "collate_file"]

SOURCE = "source"  # key of the `SourceImage` of an item


class ReadableDataset(Dataset):
    """``monai.data.Dataset`` over the items of `InputFiles`, where an unreadable file becomes an item with its reason.

    Each file is read once. An item is the output of ``transform``, with its `SourceImage` under ``source``, which
    ``DataLoader(…, collate_fn=collate_file)`` leaves as it is; of a file that can't be used it is ``{"file": …,
    "reason": …}``. An error of the system about that file, as denied permission, is such a reason too; other errors are
    raised.

    Args:
        data: items, each with ``image``, a path or several, and ``file``.
        transform: see `Preparation`.

    Raises:
        ValueError: as `Preparation`.
    """

    def __init__(self, data: Sequence, transform: Callable) -> None:
        super().__init__(data, transform)
        self._prepare = Preparation(transform)

    def _transform(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        try:
            source = self._prepare.read(item[Keys.IMAGE])
            return {**self._prepare(item, source.pixels, source.meta()), SOURCE: source}
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                reason = unread_reason(error, ensure_tuple(item[Keys.IMAGE]))
                if reason is None:
                    raise
            return {"file": item["file"], "reason": reason}


def collate_file(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate the only item of a batch; its `SourceImage`, which is no tensor, stays as it is.

    With several workers, a source is pickled once, and as many images are in memory as the ``DataLoader`` prefetches.

    Args:
        items: one item of `ReadableDataset`.

    Raises:
        ValueError: there are several.
    """
    if len(items) != 1:
        raise ValueError(f"files are evaluated one by one: set batch_size of the DataLoader to 1, not {len(items)}.")
    item = dict(items[0])
    source = item.pop(SOURCE, None)
    batch = list_data_collate([item])
    return batch if source is None else {**batch, SOURCE: source}
