"""Slices of several files that go through the network together, while the next ones are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys

from ..io.plain import plain_tensor
from .dataset import SOURCE

__all__ = ["FilesTogether", "KnownOutput", "read_ahead", "slices_together"]

LARGE = 2**21  # pixels of a file: larger ones, and volumes, are in memory alone
PREDICTED = "predicted"  # key of the output of the network for an item

Item = dict[str, Any]


class KnownOutput(Inferer):
    """An inferer that returns the output of the next call where it is known already.

    Args:
        inferer: for all other calls.

    Attributes:
        output: of the next call, or ``None``.

    Example:
        >>> inferer = KnownOutput(lambda inputs, network: network(inputs))
        >>> inferer.output = torch.ones(1)
        >>> [inferer(torch.zeros(1), torch.exp).item(), inferer(torch.ones(1), torch.neg).item()]
        [1.0, -1.0]
    """

    def __init__(self, inferer: Callable[..., torch.Tensor]) -> None:
        self.inferer = inferer
        self.output: torch.Tensor | None = None

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output, self.output = self.output, None
        return self.inferer(inputs, network, *args, **kwargs) if output is None else output


class FilesTogether:
    """The items of a loader of files one by one, in their order, with the output of the network for small slices.

    Args:
        loader: of items of `collate_file`.
        predict: from inputs, (B, C, H, W) or (B, C, H, W, 1), to outputs (B, …), or to ``None``: then the items have
            no output.
        most: the number of slices that are predicted together.
    """

    def __init__(
        self,
        loader: Iterable[Item],
        predict: Callable[[torch.Tensor], torch.Tensor | None],
        most: int,
    ) -> None:
        self.loader, self.predict, self.most = loader, predict, most

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # a DataLoader

    def __iter__(self) -> Iterator[Item]:
        for items in read_ahead(slices_together(self.loader, self.most)):
            images = [item[Keys.IMAGE] for item in items if Keys.IMAGE in item]
            outputs = self.predict(torch.cat([plain_tensor(image) for image in images])) if len(images) > 1 else None
            known = iter([None] * len(images) if outputs is None else outputs.split(1))
            del images, outputs
            # Each is released before the next one is processed.
            items.reverse()
            while items:
                item = items.pop()
                predicted = next(known) if Keys.IMAGE in item else None
                yield item if predicted is None else {**item, PREDICTED: predicted}
                del item, predicted


def slices_together(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Lists of consecutive items: up to ``most`` small slices with inputs of one size, or one item of another kind.

    Items without an image do not separate the slices around them.
    """
    together: list[Item] = []
    for item in items:
        if together and (not _fits(item, together) or len(together) >= most):
            yield together
            together = []
        together.append(item)
        if len(together) >= most or not _is_small(item):
            # Not while the next one is being read.
            yielded, together = together, []
            del item
            yield yielded
            del yielded
    if together:
        yield together


def read_ahead(groups: Iterable[list[Item]]) -> Iterator[list[Item]]:
    """The same groups; while small slices are processed, a thread reads the next group.

    Torch, zlib and file systems let other threads run meanwhile. Errors of the reading are raised here.
    """
    following = iter(groups)
    with ThreadPoolExecutor(1, "reading") as thread:
        future: Future[list[Item] | None] = thread.submit(next, following, None)
        while (group := future.result()) is not None:
            alone = not all(map(_is_small, group))
            # Either way the future of this group goes, which would keep it in memory.
            future = Future() if alone else thread.submit(next, following, None)
            yield group
            if alone:
                group.clear()
                future = thread.submit(next, following, None)


def _is_small(item: Item) -> bool:
    if Keys.IMAGE not in item:
        return True
    shape, source = item[Keys.IMAGE].shape, item.get(SOURCE)
    return (len(shape) == 4 or shape[4] == 1) and (source is None or source.pixels.size <= LARGE)


def _fits(item: Item, together: Sequence[Item]) -> bool:
    if Keys.IMAGE not in item:
        return True
    shapes = {each[Keys.IMAGE].shape for each in together if Keys.IMAGE in each}
    return _is_small(item) and (not shapes or shapes == {item[Keys.IMAGE].shape})
