"""What a run sets for its whole process."""

from __future__ import annotations

from monai.utils import set_determinism

from ..config import choose_threads, keep_freed_memory

__all__ = ["set_up"]


def set_up(seed: int, threads: int | None = None) -> None:
    """Choose the number of threads, keep freed memory, and seed the random generators by MONAI's ``set_determinism``.

    Args:
        seed: of the run.
        threads: see `choose_threads`; of the memory, `keep_freed_memory`.

    Raises:
        ValueError: ``threads`` is not a whole number from 1.
    """
    choose_threads(threads)
    keep_freed_memory()
    set_determinism(seed)
