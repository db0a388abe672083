"""What a run sets for its whole process."""

from __future__ import annotations

from monai.utils import set_determinism

from ..config import choose_threads

__all__ = ["set_up"]


def set_up(seed: int, threads: int | None = None) -> None:
    """Choose the number of threads, and seed the random generators by MONAI's ``set_determinism``.

    Args:
        seed: of the run.
        threads: see `choose_threads`.

    Raises:
        ValueError: ``threads`` is not a whole number from 1.
    """
    choose_threads(threads)
    set_determinism(seed)
