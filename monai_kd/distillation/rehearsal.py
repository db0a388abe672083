"""A rehearsal: student, teachers and loss run once on an example before the training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..losses import Projections
from ..networks.outputs import main_logits
from .distiller import Distiller

__all__ = ["Rehearsal", "ends_in_probabilities", "fitted_projections", "may_be_probabilities", "rehearse"]

Shapes = dict[str, tuple[int, ...]]
_MANY = 256  # outputs, of which at least one logit is below 0 or above 1
# By the node of autograd that made them.
_PROBABILITIES = {"SigmoidBackward0": "sigmoid", "SoftmaxBackward0": "softmax"}


@dataclass(frozen=True)
class Rehearsal:
    """The shapes of what student and teachers return for an example.

    Attributes:
        shapes: as of ``Distiller.forward``, with the shape of each tensor in its place.
    """

    shapes: dict[str, Any]

    @property
    def student_shapes(self) -> Shapes:
        """Tap to the shape of the student's features, (B, C, spatial axes …)."""
        return self.shapes["student_features"]

    def teacher_shapes(self, teacher: str | None = None) -> Shapes:
        """Tap to the shape of a teacher's features; of several teachers, of the one with this name."""
        return self.shapes["teacher_features" if teacher is None else f"teacher_features.{teacher}"]


def rehearse(
    student: nn.Module,
    teacher: nn.Module | Mapping[str, nn.Module] | None = None,
    student_taps: Mapping[str, str] | None = None,
    teacher_taps: Mapping[str, str] | Mapping[str, Mapping[str, str]] | None = None,
    *,
    image: torch.Tensor,
    teacher_image: torch.Tensor | None = None,
    teacher_output: nn.Module | Mapping[str, nn.Module] | None = None,
    loss: Callable[[dict, torch.Tensor | None], object] | None = None,
    label: torch.Tensor | None = None,
) -> Rehearsal:
    """Run student and teachers once, to find the shapes of the tapped features and to check that the loss takes them.

    Copies run on the CPU, in eval mode and without gradients: the given networks, their mode, weights, statistics,
    gradients and device, and torch's random state are unchanged.

    Args:
        student, teacher, student_taps, teacher_taps: as for `Distiller`.
        image: (B, C, spatial axes …), an example for the student, and for the teachers unless they have their own.
        teacher_image: an example for the teachers.
        teacher_output: as for `Distiller`.
        loss: a `monai_kd.losses.DistillationLoss`, of which a copy is called once with the outputs and ``label``.
        label: an example for its supervised terms.

    Raises:
        ValueError, TypeError, RuntimeError: a tap's path does not exist, a network does not take its image, or the loss
            does not take the outputs.

    Example:
        >>> student, teacher = nn.Conv2d(1, 1, 3), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1))
        >>> images = {"image": torch.zeros(2, 1, 8, 8), "teacher_image": torch.zeros(2, 3, 8, 8)}
        >>> rehearse(student, teacher, teacher_taps={"first": "0"}, **images).teacher_shapes()
        {'first': (2, 4, 6, 6)}
    """
    copies = copy.deepcopy(student), copy.deepcopy(teacher)
    output = copy.deepcopy(teacher_output)
    distiller = Distiller(*copies, student_taps, teacher_taps, teacher_output=output).cpu().eval()
    loss = copy.deepcopy(loss)
    image = image.cpu()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = distiller(image, distiller.teach(image if teacher_image is None else teacher_image.cpu()))
        if loss is not None:
            if isinstance(loss, nn.Module):
                loss = loss.cpu()
            loss(outputs, None if label is None else label.cpu())
    return Rehearsal({name: _shape(value) for name, value in outputs.items()})


def ends_in_probabilities(network: nn.Module, image: torch.Tensor) -> str | None:
    """``"sigmoid"`` or ``"softmax"`` if that is the last step of a network, whose output then are no logits.

    A copy runs as in `rehearse`, but with gradients, by which the last step is known.

    Args:
        network: any network.
        image: (B, C, spatial axes …), an example for it.

    Raises:
        TypeError: the output holds no logits, see `monai_kd.networks.outputs.main_logits`.

    Example:
        >>> ends_in_probabilities(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Softmax(1)), torch.zeros(1, 1, 4, 4))
        'softmax'
    """
    copied = copy.deepcopy(network).cpu().eval()
    # Nothing goes backward, so that no activation is kept; the image is no leaf, which may not be changed in place.
    nothing = torch.empty(0)
    keep_nothing = torch.autograd.graph.saved_tensors_hooks(lambda _: nothing, lambda _: nothing)
    with torch.enable_grad(), keep_nothing, torch.random.fork_rng(devices=[]):
        example = image.cpu().clone().requires_grad_() * 1
        made_by = main_logits(copied(example), copied, example.ndim).grad_fn
    return None if made_by is None else _PROBABILITIES.get(made_by.name())


def may_be_probabilities(network: nn.Module, image: torch.Tensor) -> bool:
    """Whether all outputs of a trained network for random images lie between 0 and 1, as logits hardly do.

    For networks whose last step is not what makes the probabilities, see `ends_in_probabilities`: they may be resized,
    clamped or averaged. A copy runs as in `rehearse`. Few outputs say nothing by themselves, but those of a softmax
    have a sum of 1 over the channels.

    Args:
        network: with its trained weights.
        image: (B, C, spatial axes …), of the shape of its input.

    Raises:
        TypeError: as `ends_in_probabilities`.

    Example:
        >>> torch.manual_seed(0)
        <torch._C.Generator object at ...>
        >>> network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Sigmoid(), nn.Upsample(scale_factor=2))
        >>> image = torch.zeros(1, 1, 8, 8)
        >>> may_be_probabilities(network, image), may_be_probabilities(network[0], image)
        (True, False)
    """
    copied = copy.deepcopy(network).cpu().eval()
    images = torch.randn(4, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = main_logits(copied(images), copied, images.ndim).float()
    if bool((outputs < 0).any() or (outputs > 1).any()):
        return False
    sums = outputs.sum(dim=1)
    return outputs.numel() >= _MANY or (outputs.shape[1] > 1 and torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


def fitted_projections(
    student: nn.Module,
    teacher: nn.Module,
    student_taps: Mapping[str, str],
    teacher_taps: Mapping[str, str],
    *,
    image: torch.Tensor,
    teacher_image: torch.Tensor | None = None,
    side: str = "teacher",
) -> Projections:
    """`Projections` for all tapped layers, with the channels found by a rehearsal.

    The rehearsal draws no random numbers: for the same seed, the weights are those of ``Projections(channels, side)``
    with the layers in the order of ``student_taps``.

    Args:
        student, teacher, student_taps, teacher_taps, image, teacher_image: as for `rehearse`.
        side: as for `Projections`.

    Raises:
        ValueError, TypeError, RuntimeError: as for `rehearse` and `Projections.fitted`.

    Example:
        >>> taps, image = {"first": "0"}, torch.zeros(2, 1, 8, 8)
        >>> student, teacher = nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Sequential(nn.Conv2d(1, 4, 3))
        >>> fitted_projections(student, teacher, taps, taps, image=image).layers["first"]
        Conv2d(4, 2, kernel_size=(1, 1), stride=(1, 1))
    """
    found = rehearse(student, teacher, student_taps, teacher_taps, image=image, teacher_image=teacher_image)
    return Projections.fitted(found.student_shapes, found.teacher_shapes(), side=side)


def _shape(value: Any) -> Any:
    """Of a tensor, or of each in a mapping or a list."""
    if isinstance(value, Mapping):
        return {name: _shape(each) for name, each in value.items()}
    return [_shape(each) for each in value] if isinstance(value, list) else tuple(value.shape)
