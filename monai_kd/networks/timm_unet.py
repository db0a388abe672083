"""U-Net with an encoder of timm.

Two libraries were tried before this was written (torch 2.14.1, timm 1.0.31):

- MONAI's ``FlexibleUNet`` has its own EfficientNets and ResNets. Others must be registered in a global table, as a
  class, with the channels of each encoder; pretrained weights are downloaded, never read from a local file.
- segmentation_models_pytorch 0.6.0 takes any encoder of timm (``smp.Unet("tu-…")``) and needs no further packages. But
  it has no argument for a local weights file. Where one is passed on to timm, layers that the file lacks silently stay
  random, and no other layout than timm's is supported.

So this network combines the loading of `create_backbone`, timm's ``forward_intermediates`` (run by
``features_only=True``) and MONAI's ``UpCat``, the decoder block of ``BasicUNet`` and ``FlexibleUNet``, with the names
of ``BasicUNet``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from .backbone import create_backbone
from .upcat import UpCatWhereNeeded

__all__ = ["TimmUNet"]


class TimmUNet(nn.Module):
    """A U-Net in two dimensions whose encoder is a classifier of timm without its head.

    Decoder levels have the names and strides of MONAI's ``BasicUNet``: ``upcat_4`` … ``upcat_1`` at strides 8, 4, 2, 1,
    and before them ``upcat_5`` at 16. The skip connection of a level is the encoder's last output with its stride;
    where there is none, as at full resolution, the level has no skip connection.

    Args:
        in_channels: channels of the image, any number: timm adapts the first convolution of pretrained weights.
        out_channels: channels of the logits.
        encoder: a model of timm whose stages halve the image, such as ``"tf_efficientnet_lite0"``,
            ``"mobilenetv2_100"``, ``"resnet18"``, ``"convnext_atto"``.
        features: channels of the decoder's levels, from the deepest on. With n levels, the deepest output used of the
            encoder has the stride 2ⁿ; the layers after it are removed.
        norm: normalisation of the decoder, by its name in MONAI.
        pretrained: weights of the encoder: ``False``, ``True`` (downloaded) or a local file, see `create_backbone`.
        image_size: side of the square input image, in pixels, for transformers that are built for one size.
        classes: with a number above 0, the encoder keeps its classification head, with as many outputs: one network for
            both tasks. ``encoder`` then has all weights of the classifier of timm of this name, see `create_backbone`.
        kwargs: passed to the encoder, such as ``drop_path_rate``.

    Shape:
        - input: (B, in_channels, H, W), H and W divisible by 2ⁿ
        - output: (B, out_channels, H, W), logits; with ``classes``, in training mode and while ``with_classes`` is
          true, a tuple of these and of those of the classes (B, classes)

    Raises:
        ValueError: timm has no model ``encoder``, or it has no outputs of these strides; when called, H or W is not
            divisible by 2ⁿ.
        FileNotFoundError, RuntimeError: see `create_backbone`.

    Example:
        >>> net = TimmUNet(in_channels=1, encoder="mobilenetv2_050", features=(32, 16, 16, 8, 8))
        >>> net(torch.zeros(2, 1, 64, 96)).shape
        torch.Size([2, 1, 64, 96])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str = "tf_efficientnet_lite0",
        features: Sequence[int] = (256, 128, 64, 32, 16),
        norm: str | tuple = "batch",
        pretrained: bool | str | None = False,
        image_size: int | None = None,
        classes: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        features = [int(width) for width in features]
        strides = [2**level for level in range(len(features), -1, -1)]
        if not timm.is_model(encoder) and encoder in torchvision.models.list_models():
            raise ValueError(f"'{encoder}' is a model of torchvision alone, and the encoder must be one of timm.")
        self.classes, self.with_classes = int(classes), False
        model: Any = create_backbone(encoder, pretrained, self.classes, image_size, in_chans=in_channels, **kwargs)
        if not hasattr(model, "forward_intermediates"):
            raise ValueError(
                f"'{encoder}' has no intermediate outputs in timm {timm.__version__}: choose another encoder."
            )
        # Last output of each stride, and its channels.
        levels = {info["reduction"]: (index, info["num_chs"]) for index, info in enumerate(model.feature_info)}
        if strides[0] not in levels:
            raise ValueError(
                f"'{encoder}' has outputs of strides {', '.join(map(str, levels))}, and {len(features)} features need "
                f"one of {strides[0]}: give as many features as it halves the image, or choose another encoder."
            )
        self.strides = [stride for stride in levels if stride in strides]
        self.indices = [levels[stride][0] for stride in self.strides]
        if not self.classes:
            self.indices = model.prune_intermediate_layers(self.indices, prune_norm=True)
        self.encoder: Any = model
        # Channels of the outputs of `encode`.
        self.channels: dict[int, int] = {stride: levels[stride][1] for stride in self.strides}
        self.depth = len(features)
        below = levels[strides[0]][1]
        for level, width in zip(range(self.depth, 0, -1), features, strict=True):
            skip = levels[2 ** (level - 1)][1] if 2 ** (level - 1) in levels else 0
            block = UpCatWhereNeeded(
                spatial_dims=2,
                in_chns=below,
                cat_chns=skip,
                out_chns=width,
                act=("relu", {"inplace": True}),
                norm=norm,
                bias=False,
                upsample="nontrainable",
                interp_mode="nearest",
                align_corners=None,
                halves=skip > 0,
                is_pad=False,
            )
            self.add_module(f"upcat_{level}", block)
            below = width
        self.final_conv = nn.Conv2d(below, out_channels, kernel_size=1)

    def encode(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Outputs of the encoder by their strides, (B, C, H / stride, W / stride) each.

        Raises:
            ValueError: H or W is not divisible by 2ⁿ.
        """
        return self._encode(x, last=False)[1]

    def _encode(self, x: torch.Tensor, last: bool) -> tuple[torch.Tensor | None, dict[int, torch.Tensor]]:
        """What the head of the encoder takes, where ``last`` asks for it, and what `encode` returns."""
        height, width = x.shape[-2:]
        if height % 2**self.depth or width % 2**self.depth:
            raise ValueError(f"image of {height} × {width} pixels: both must be divisible by {2**self.depth}.")
        found = self.encoder.forward_intermediates(x, indices=self.indices, intermediates_only=not last)
        end, found = found if last else (None, found)
        return end, dict(zip(self.strides, found, strict=True))

    def decode(self, skips: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Logits (B, out_channels, H, W) from the outputs of `encode`."""
        x = skips[2**self.depth]
        for level in range(self.depth, 0, -1):
            x = getattr(self, f"upcat_{level}")(x, skips.get(2 ** (level - 1)))
        return self.final_conv(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        if not self.classes or not (self.training or self.with_classes):
            return self.decode(self.encode(x))
        end, skips = self._encode(x, last=True)
        return self.decode(skips), self.encoder.forward_head(end)
