"""A data set that goes on after a file that can't be read."""

from __future__ import annotations

from typing import Any

from monai.data import Dataset

from .system_errors import system_reason
from .unreadable import reason_of

__all__ = ["ReadableDataset"]


class ReadableDataset(Dataset):
    """``monai.data.Dataset`` over the items of `InputFiles`, where an unreadable file becomes an item with its reason.

    Such an item is ``{"file": …, "reason": …}``, without ``image``. What the system says of a file counts too, such as
    one that may not be read; other errors are raised.
    """

    def _transform(self, index: int) -> dict[str, Any]:
        try:
            return super()._transform(index)
        except Exception as error:
            item = self.data[index]
            reason = reason_of(error)
            if reason is None:
                paths = [item["image"]] if isinstance(item["image"], str) else item["image"]
                said = system_reason(error, paths)
                if said is None:
                    raise
                reason = f"it can't be read: {said}"
            return {"file": item["file"], "reason": reason}
