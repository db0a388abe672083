"""Learned 1×1 convolutions that map features of student and teacher to the same channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from .pairs import check_shapes

__all__ = ["Projections"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Projections(nn.Module):
    """One 1×1 convolution for each tapped layer, shared by all terms that compare features.

    Args:
        channels: layer name to ``[student_channels, teacher_channels]``.
        side: ``"teacher"`` maps P(F_t) to the student's channels, as in the study that the default networks follow:
            both sides are trained, and may shrink to zero together. ``"student"`` maps P(F_s) to the teacher's
            channels, as in FitNets (Romero et al. 2015, https://arxiv.org/abs/1412.6550): the target is fixed and
            cannot collapse.
        spatial_dims: number of spatial axes, 1 to 3.

    Raises:
        ValueError: ``side`` is neither, or a layer's channels are not a pair.

    Example:
        >>> p = Projections({"d1": [4, 8]}, side="student")
        >>> s, t = p({"d1": torch.zeros(1, 4, 6, 6)}, {"d1": torch.zeros(1, 8, 6, 6)})
        >>> s["d1"].shape == t["d1"].shape
        True
    """

    def __init__(self, channels: Mapping[str, Sequence[int]], side: str = "teacher", spatial_dims: int = 2) -> None:
        super().__init__()
        if side not in ("teacher", "student"):
            raise ValueError(f"side must be 'teacher' or 'student', got '{side}'.")
        self.side = side
        self.layers = nn.ModuleDict()
        for name, pair in channels.items():
            if len(pair) != 2:
                raise ValueError(f"channels of layer '{name}' must be [student, teacher], got {list(pair)}.")
            student, teacher = pair
            in_out = (teacher, student) if side == "teacher" else (student, teacher)
            self.layers[name] = Conv["conv", spatial_dims](*in_out, kernel_size=1)

    @classmethod
    def fitted(
        cls,
        student_shapes: Mapping[str, Sequence[int]],
        teacher_shapes: Mapping[str, Sequence[int]],
        side: str = "teacher",
    ) -> Projections:
        """One projection for each tapped layer, with the channels and axes of its features.

        Args:
            student_shapes, teacher_shapes: layer name to (B, C, spatial axes …), as found by
                `monai_kd.distillation.rehearse`.
            side: as for the class.

        Raises:
            ValueError: the layers of the two sides differ in their names or numbers of axes, or the layers of one side
                in their numbers of axes.

        Example:
            >>> Projections.fitted({"d1": (1, 4, 6, 6)}, {"d1": (1, 8, 3, 3)}, side="student").layers["d1"]
            Conv2d(4, 8, kernel_size=(1, 1), stride=(1, 1))
        """
        check_shapes(student_shapes, teacher_shapes)
        shapes = {name: (tuple(shape), tuple(teacher_shapes[name])) for name, shape in student_shapes.items()}
        axes = {name: len(student) - 2 for name, (student, _) in shapes.items()}
        if len(set(axes.values())) > 1:
            raise ValueError(f"tapped layers must have the same number of spatial axes, got {axes}.")
        channels = {name: (student[1], teacher[1]) for name, (student, teacher) in shapes.items()}
        return cls(channels, side=side, spatial_dims=next(iter(axes.values())))

    def forward(
        self, student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Project one side, in the precision of its features; layers without a projection pass unchanged.

        Args:
            student, teacher: layer name to features (B, C, spatial axes …).

        Raises:
            ValueError: a layer to project is missing, or has other channels or axes than its projection takes.
        """
        student, teacher = dict(student), dict(teacher)
        moved = teacher if self.side == "teacher" else student
        for name, layer in self.layers.items():
            assert isinstance(layer, _CONVOLUTIONS)
            if name not in moved:
                raise ValueError(f"no features of layer '{name}' to project; tapped: {', '.join(moved) or 'none'}.")
            axes, found, wanted = layer.weight.ndim, moved[name].ndim, layer.in_channels
            if found != axes or moved[name].shape[1] != wanted:
                raise ValueError(
                    f"layer '{name}' of the {self.side} is {tuple(moved[name].shape)}; its projection takes (B, "
                    f"{wanted}, {axes - 2} spatial axes): set its channels to the tapped module's, or tap another."
                )
            # In the precision of the features: in float32, a convolution takes several times as long.
            half = moved[name].dtype in (torch.float16, torch.bfloat16)
            with torch.autocast(moved[name].device.type, moved[name].dtype if half else None, enabled=half):
                moved[name] = layer(moved[name])
        return student, teacher
