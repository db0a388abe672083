"""A data set that goes on after a file that can't be read."""

from __future__ import annotations

from typing import Any

from monai.data import Dataset

from ..io.unreadable import reason_of

__all__ = ["ReadableDataset"]


class ReadableDataset(Dataset):
    """``monai.data.Dataset`` over the items of `InputFiles`, where an unreadable file becomes an item with its reason.

    Such an item is ``{"file": …, "reason": …}``, without ``image``. Other errors are raised.
    """

    def _transform(self, index: int) -> dict[str, Any]:
        try:
            return super()._transform(index)
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            return {"file": self.data[index]["file"], "reason": reason}
