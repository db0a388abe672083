"""Features of student and teacher, side by side, with what several loss terms compute of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

__all__ = ["ComparedFeatures", "Pair", "aligned_pairs", "pool_to"]

_ADAPTIVE_POOL: dict[int, Callable[..., torch.Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
# Numbers of a block on a CPU: some blocks of float32 stay in the cache of a core. None: one block, as on a GPU, where
# launching the operations of many blocks takes longer than running them.
_BLOCK: int | None = 2**17


def pool_to(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Adaptive average pooling of (B, C, spatial axes …) to ``size``, for one to three spatial axes."""
    if tuple(features.shape[2:]) == tuple(size):
        return features
    return _ADAPTIVE_POOL[features.ndim - 2](features, tuple(size))


class Pair:
    """The features of one layer, of the same shape on both sides.

    In half precision, differences and squares are computed and summed in float32, and forward and backward read the
    features once for both values; on a CPU block by block, so that there is no float32 copy of the features. Other
    types use plain expressions.

    Args:
        student, teacher: (B, C, spatial axes …).
        energies: whether `energies` is needed too, which is then computed together with `mean_square`.
    """

    def __init__(self, student: torch.Tensor, teacher: torch.Tensor, energies: bool = False) -> None:
        self._in_blocks = student.dtype == teacher.dtype and student.dtype in (torch.float16, torch.bfloat16)
        if self._in_blocks:
            student = student if _channels_last(student) else student.contiguous()
            teacher = _laid_out(teacher, channels_last=_channels_last(student))
        self.student, self.teacher, self._with_energies = student, teacher, energies

    @cached_property
    def _both(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return _Statistics.apply(self.student, self.teacher, True)

    @cached_property
    def mean_square(self) -> torch.Tensor:
        """Mean of the squared differences, a scalar."""
        if not self._in_blocks:
            return F.mse_loss(self.student, self.teacher)
        total = self._both[0] if self._with_energies else _Statistics.apply(self.student, self.teacher, False)[0]
        return total / self.student.numel()

    @cached_property
    def energies(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the squared channels at each position, of student and teacher, each (B, spatial axes …)."""
        if not self._in_blocks:
            return self.student.pow(2).sum(dim=1), self.teacher.pow(2).sum(dim=1)
        return self._both[1:]


class ComparedFeatures(dict[str, torch.Tensor]):
    """The student's features by layer, and a `Pair` for each layer, which the terms of a loss share.

    Args:
        features: layer name to (B, C, spatial axes …).
        energies: as for `Pair`.
    """

    def __init__(self, features: Mapping[str, torch.Tensor], energies: bool = False) -> None:
        super().__init__(features)
        self._with_energies = energies
        self._pairs: dict[tuple[int, bool], list[Pair]] = {}

    def pairs(self, teacher: Mapping[str, torch.Tensor]) -> list[Pair]:
        """`aligned_pairs`, built once for each mapping of a teacher that is alive, with and without gradients."""
        key = (id(teacher), torch.is_grad_enabled())
        if key not in self._pairs:
            self._pairs[key] = _aligned(self, teacher, self._with_energies)
        return self._pairs[key]


def aligned_pairs(student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]) -> list[Pair]:
    """Pair the layers of both sides by name; where their sizes differ, the larger is pooled to the smaller.

    Raises:
        ValueError: the names differ, none is given, or the channels or axes of a pair differ.
    """
    return student.pairs(teacher) if isinstance(student, ComparedFeatures) else _aligned(student, teacher, False)


def check_layers(student: Collection[str], teacher: Collection[str]) -> None:
    """Check the names of the layers of both sides.

    Raises:
        ValueError: they differ, or none is given.
    """
    if not student and not teacher:
        raise ValueError(
            "this recipe compares features, and no layers are tapped: name them in `taps`, and those of the teacher in "
            "`teacher_taps`, or take a recipe that compares outputs alone, such as kd."
        )
    if set(student) != set(teacher):
        raise ValueError(
            f"student and teacher must be tapped under the same names: student has {sorted(student)}, teacher has "
            f"{sorted(teacher)}."
        )


def check_shapes(student: Mapping[str, Sequence[int]], teacher: Mapping[str, Sequence[int]]) -> None:
    """Check that the layers of both sides, given by their shapes, can be compared but for channels and sizes.

    Raises:
        ValueError: the names differ, none is given, or the axes of a pair differ.
    """
    check_layers(student, teacher)
    for name, shape in student.items():
        s, t = tuple(shape), tuple(teacher[name])
        if len(s) != len(t) or not 3 <= len(s) <= 5:
            raise ValueError(
                f"layer '{name}': student {s} and teacher {t} must be (B, C, spatial axes …) with the same one to "
                "three axes, to be projected; tokens, (B, N, C), and embeddings, (B, C), are no such map. Terms that "
                "compare them as they are, such as SimilarityLoss, take any."
            )


def _aligned(student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor], energies: bool) -> list[Pair]:
    check_shapes(*({name: each.shape for name, each in side.items()} for side in (student, teacher)))
    pairs = []
    for name, s in student.items():
        t = teacher[name]
        if s.shape[1] != t.shape[1]:
            raise ValueError(
                f"layer '{name}': student has {s.shape[1]} channels, teacher {t.shape[1]}; give it a projection."
            )
        size = [min(a, b) for a, b in zip(s.shape[2:], t.shape[2:], strict=True)]
        pairs.append(Pair(pool_to(s, size), pool_to(t, size), energies))
    return pairs


class _Statistics(torch.autograd.Function):
    """Sum of squared differences, a float32 scalar, and the energies of both sides, float32; empty if not wanted."""

    @staticmethod
    def forward(ctx: Any, student: torch.Tensor, teacher: torch.Tensor, energies: bool) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(student, teacher)
        ctx.energies = energies
        shape = (student.shape[0], *student.shape[2:]) if energies else (0,)
        maps = tuple(student.new_empty(shape, dtype=torch.float32) for _ in range(2))
        total = student.new_zeros((), dtype=torch.float32)
        for channel, (s, t), found in _blocks((student, teacher), maps if energies else ()):
            s, t = s.float(), t.float()
            total += (s - t).square_().sum()
            for side, energy in zip((s, t), found, strict=False):
                torch.sum(side.square_(), dim=channel, out=energy)
        return total, *maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (total, *maps), sides = outputs, ctx.saved_tensors
        gradients = [torch.empty_like(side) for side in sides]
        twice = tuple(2 * each for each in maps) if ctx.energies else ()
        for channel, (s, t, of_s, of_t), energies in _blocks((*sides, *gradients), twice):
            s, t = s.float(), t.float()
            difference = (s - t).mul_(2 * total)
            for needed, side, out in zip(ctx.needs_input_grad, (s, t), (of_s, of_t), strict=False):
                if needed:
                    factor = energies[0 if side is s else 1].unsqueeze(channel) if ctx.energies else None
                    out.copy_(difference if factor is None else torch.addcmul(difference, side, factor))
                difference.neg_()
        found = [each if needed else None for each, needed in zip(gradients, ctx.needs_input_grad, strict=False)]
        return *found, None


def _channels_last(features: torch.Tensor) -> bool:
    return features.movedim(1, -1).is_contiguous()


def _laid_out(features: torch.Tensor, channels_last: bool) -> torch.Tensor:
    return features.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else features.contiguous()


def _blocks(
    features: Sequence[torch.Tensor], maps: Sequence[torch.Tensor]
) -> Iterator[tuple[int, list[torch.Tensor], list[torch.Tensor]]]:
    """Views of the same positions of features and maps: the axis of the channels in them, features, maps."""
    first = features[0]
    if _BLOCK is None or first.device.type != "cpu":
        yield 1, list(features), list(maps)
        return
    length = max(1, _BLOCK // first.shape[1])
    if _channels_last(first):
        rows = [each.movedim(1, -1).flatten(0, -2).split(length) for each in features]
        parts = [each.flatten().split(length) for each in maps]
        for index in range(len(rows[0])):
            yield 1, [each[index] for each in rows], [each[index] for each in parts]
        return
    for image in range(first.shape[0]):
        columns = [each[image].flatten(1).split(length, dim=1) for each in features]
        parts = [each[image].flatten().split(length) for each in maps]
        for index in range(len(columns[0])):
            yield 0, [each[index] for each in columns], [each[index] for each in parts]
