"""What metrics of the training are computed of, where some images have no label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.exceptions import NotComputableError
from ignite.metrics import Accuracy
from monai.handlers import from_engine

from ..engines.trainer import LABELLED

__all__ = ["LabelledAccuracy", "from_labelled"]


def from_labelled(keys: str | Sequence[str]) -> Callable[[Sequence[Mapping[str, Any]]], Any]:
    """As MONAI's ``from_engine``, of the items that have a label.

    Args:
        keys: of the output of an engine, decollated, such as ``["pred", "label"]``.

    Example:
        >>> items = [{"pred": 0, "label": 1, "labelled": True}, {"pred": 2, "label": 0, "labelled": False}]
        >>> from_labelled(["pred", "label"])(items)
        ([0], [1])
    """
    values = from_engine(keys)
    # MONAI reads the first item.
    nothing: Any = [] if isinstance(keys, str) else tuple([] for _ in keys)

    def of_labelled(items: Sequence[Mapping[str, Any]]) -> Any:
        known = [item for item in items if item.get(LABELLED, True)]
        return values(known) if known else nothing

    return of_labelled


class LabelledAccuracy(Accuracy):
    """Ignite's ``Accuracy`` of the items of an engine that have a label, but NaN if there are none.

    Args:
        kwargs: as for ``Accuracy``, but for ``output_transform``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(output_transform=from_labelled(["pred", "label"]), **kwargs)

    def compute(self) -> float:
        try:
            return super().compute()
        except NotComputableError:
            return float("nan")
