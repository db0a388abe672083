"""Rows of numbers that a pass of a network gave for slices, to be found again by the slices."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["SeenSlices"]

MOST_SEEN = 4096  # slices, of at most 8 kB each


class SeenSlices:
    """Remembers a row for each slice, on the CPU; of the oldest slices no longer, once there are `MOST_SEEN`.

    Example:
        >>> seen, slices = SeenSlices(), torch.rand(2, 3, 4, 4)
        >>> seen.remember(slices, torch.tensor([[1.0], [2.0]]))
        >>> seen.recall(slices[1:]), seen.recall(slices + 1)
        (tensor([[2.]]), None)
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, torch.Tensor] = {}

    def remember(self, images: torch.Tensor, rows: torch.Tensor) -> None:
        """
        Shape:
            - images: (B, C, H, W), as the network gets them
            - rows: (B, N)
        """
        for digest, row in zip(_digests(images), rows.detach().cpu(), strict=True):
            self._rows.pop(digest, None)  # so that one that comes again is among the last
            self._rows[digest] = row
        while len(self._rows) > MOST_SEEN:
            del self._rows[next(iter(self._rows))]

    def recall(self, images: torch.Tensor) -> torch.Tensor | None:
        """The rows (B, N); ``None`` unless all slices are known."""
        found = self.recall_each(images)
        known = [row for row in found if row is not None]
        return torch.stack(known) if len(known) == len(found) else None

    def recall_each(self, images: torch.Tensor) -> list[torch.Tensor | None]:
        """The row (N,) of each slice, or ``None``."""
        return [self._rows.get(digest) for digest in _digests(images)]


def _digests(images: torch.Tensor) -> list[bytes]:
    whole = images.detach().float().cpu().contiguous().numpy()
    return [hashlib.blake2b(each.tobytes(), digest_size=16).digest() for each in whole]
