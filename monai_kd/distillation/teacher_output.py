"""Convert the logits of a teacher to the outputs that a student has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..networks.outputs import ACTIVATIONS

__all__ = ["AdaptOutput"]


class AdaptOutput(nn.Module):
    r"""Of the logits z of a teacher, those of some of its classes or masks, in the form of the student's outputs.

    The probabilities p of the teacher stay what they are, and what they become are logits again, so that loss terms
    with a temperature can be used. With :math:`c_k` the channels of the teacher that are output k of the student,
    :math:`k = 1 … K`, and :math:`c` all of these:

    ===================  =====================================================  ======================================
    from, to             logits                                                 probabilities
    ===================  =====================================================  ======================================
    sigmoid, sigmoid     :math:`z'_k = z_{c_k}`                                 :math:`p'_k = p_{c_k}`
    softmax, sigmoid     :math:`z'_k = s(c_k) - s(\bar c_k)`                    :math:`p'_k = \sum_{j ∈ c_k} p_j`
    softmax, softmax,    :math:`z'_k = s(c_k)`, and of the background           the same, and
    with a background    :math:`z'_0 = s(\bar c)`                               :math:`p'_0 = \sum_{j ∉ c} p_j`
    sigmoid, softmax     :math:`z'_1 = z_{c_1}, z'_0 = 0`, for K = 1            :math:`p'_1 = p_{c_1}`
    softmax, softmax,    :math:`z'_k = s(c_k)`                                  :math:`p'_k = \sum_{j ∈ c_k} p_j /
    of classes                                                                  \sum_{j ∈ c} p_j`
    ===================  =====================================================  ======================================

    where :math:`s(c) = \log \sum_{j ∈ c} e^{z_j}`, and :math:`\bar c` are all channels but c. Of classes, an image is
    known to be of one of c, and the probabilities are those under this condition. Masks by sigmoid may overlap: the
    probability that a place is in any of several is not known, nor is that of the background.

    Args:
        channels: for each class or mask of the student, the channel of the teacher's logits, or a list of channels that
            it is made of, counted from 0, the background included.
        source, target: "sigmoid" or "softmax", the activation of the teacher and of the student.
        background: whether a softmax has the background as its first channel, as of segmentations.
        outputs: number of channels that the teacher has to have, the background included; ``None``: any that suffices.

    Shape:
        - input: (B, C, spatial axes …)
        - output: (B, K, spatial axes …), with a background K + 1; where sums are computed, float32

    Raises:
        ValueError: ``channels`` is empty, has a number twice or below 0, or names the background; an activation is
            another one; or several masks by sigmoid are to become one, or a softmax.
        IndexError: when called: the logits have not ``outputs`` channels, or no such channel.

    Example:
        >>> logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()  # background and three organs
        >>> AdaptOutput([3], "softmax", "sigmoid")(logits).sigmoid()
        tensor([[0.4000]])
        >>> AdaptOutput([3, 1], "softmax", "softmax")(logits).softmax(1)
        tensor([[0.4000, 0.4000, 0.2000]])
        >>> AdaptOutput([[1, 2]], "softmax", "sigmoid")(logits).sigmoid()  # either of two organs
        tensor([[0.5000]])
    """

    def __init__(
        self,
        channels: Sequence[int | Sequence[int]],
        source: str,
        target: str,
        background: bool = True,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        # Plain values, which are part of the `fingerprint` of a teacher.
        self.channels = [[each] if isinstance(each, int) else [int(one) for one in each] for each in channels]
        self.source, self.target, self.background, self.outputs = source, target, bool(background), outputs
        if unknown := sorted({source, target} - set(ACTIVATIONS)):
            raise ValueError(f"source and target must be {' or '.join(ACTIVATIONS)}, got {', '.join(unknown)}.")
        first, named = 1 if source == "softmax" and self.background else 0, [n for each in self.channels for n in each]
        if not all(self.channels) or not named or len(set(named)) < len(named) or min(named) < first:
            raise ValueError(f"channels must be different numbers from {first}, at least one, got {channels}.")
        if source != target and not self.background:
            raise ValueError("classes, which have no background, are of a softmax in both networks.")
        if source == "sigmoid" and len(named) > (len(self.channels) if target == "sigmoid" else 1):
            raise ValueError(
                f"masks by sigmoid may overlap: the probabilities of {channels} don't tell that of any of several, nor "
                "those of a softmax."
            )

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        given, named = logits.shape[1], [channel for each in self.channels for channel in each]
        if self.outputs is not None and given != self.outputs:
            raise IndexError(
                f"it returns {given} outputs, and {self.outputs} are described, the background of a softmax included, "
                "which is no name of a mask."
            )
        if max(named) >= given:
            raise IndexError(f"channels {self.channels} of logits with {given}, counted from 0.")
        outputs = [_sum(logits, each) for each in self.channels]
        if self.source == "softmax" and self.target == "sigmoid":
            outputs = [own - _sum(logits, _others(given, c)) for own, c in zip(outputs, self.channels, strict=True)]
        elif self.target == "softmax" and self.background:
            softmax = self.source == "softmax"
            outputs.insert(0, _sum(logits, _others(given, named)) if softmax else torch.zeros_like(outputs[0]))
        return torch.cat(outputs, dim=1)


def _others(given: int, channels: Sequence[int]) -> list[int]:
    return [channel for channel in range(given) if channel not in channels]


def _sum(logits: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """The logit of all of these channels together, (B, 1, …)."""
    if len(channels) == 1:
        return logits[:, channels]
    # In float32: sums of exponentials lose digits otherwise.
    return logits[:, channels].float().logsumexp(dim=1, keepdim=True)
