"""A loss term of one of several teachers."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from .inputs import SUPERVISED

__all__ = ["WithTeacher"]


class WithTeacher(nn.Module):
    """A term that compares with one of several teachers.

    Args:
        term: a loss term of this package.
        teacher: the name under which the `Distiller` holds that teacher.

    Example:
        >>> from monai_kd.losses import LogitKL
        >>> WithTeacher(LogitKL(), "vit").inputs
        ('student', 'teacher.vit')
    """

    def __init__(self, term: nn.Module, teacher: str) -> None:
        super().__init__()
        self.term = term
        # The student's features have the teacher's name too, because each teacher has its own projection of them.
        inputs = cast("tuple[str, ...]", term.inputs)
        self.inputs = tuple(name if name in SUPERVISED else f"{name}.{teacher}" for name in inputs)

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        return self.term(*args)
