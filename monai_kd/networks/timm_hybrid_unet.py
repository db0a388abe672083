"""U-Net with a pretrained CNN as its encoder and a pretrained Vision Transformer at its bridge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import create_backbone
from .timm_unet import TimmUNet

__all__ = ["TimmHybridUNet"]


class TimmHybridUNet(nn.Module):
    r"""`TimmUNet` whose deepest levels also receive the patch tokens of a Vision Transformer.

    `HybridUNet` adds one pooled vector at all positions of the bridge. Here the tokens keep their places: as a map of
    patches they are resized to each level s of ``vit_strides``, projected, and added to the output of the encoder:

    .. math:: e_s \leftarrow e_s + P_s(\mathrm{resize}_s(\mathrm{tokens}(\mathrm{resize}(x))))

    Both parts get the image normalised as their published weights expect. The attribute ``unet`` has the class of
    students such as ``timm_efficientnet_lite0``, so that taps have the same names, here with the prefix ``unet.``.

    Args:
        in_channels: channels of the image; the transformer takes three.
        out_channels: channels of the logits.
        encoder, features, norm: of the U-Net, see `TimmUNet`.
        vit_name: a Vision Transformer of timm that returns patch tokens.
        vit_image_size: side of the transformer's square input, in pixels; a multiple of its patch size.
        vit_strides: strides of the encoder's outputs that the tokens are added to.
        pretrained: weights of both: ``False``, or ``True`` (of an installed package or downloaded); or a mapping of
            ``encoder`` and ``vit`` to such values or to local files, see `create_backbone`.
        mean, std: normalisation of the images that the network gets.

    Shape:
        - input: (B, in_channels, H, W), H and W divisible by 2ⁿ for n ``features``
        - output: (B, out_channels, H, W), logits

    Raises:
        ValueError: ``in_channels`` is not 3, the encoder has no outputs of ``vit_strides``, or a name is unknown.

    Example:
        >>> net = TimmHybridUNet(encoder="mobilenetv2_050", features=(32, 16, 16, 8, 8), vit_strides=(32, 16),
        ...                      vit_name="vit_tiny_patch16_224", vit_image_size=32)
        >>> net(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str = "tf_efficientnet_lite2",
        features: Sequence[int] = (256, 128, 64, 32, 16),
        norm: str | tuple = "batch",
        vit_name: str = "vit_small_patch14_dinov2",
        vit_image_size: int = 224,
        vit_strides: Sequence[int] = (32, 16),
        pretrained: bool | dict[str, Any] = False,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        if in_channels != 3 or len(mean) != 3 or len(std) != 3:
            raise ValueError(f"the Vision Transformer takes three channels, got in_channels={in_channels}.")
        weights = pretrained if isinstance(pretrained, dict) else dict.fromkeys(("encoder", "vit"), pretrained)
        if sorted(weights) != ["encoder", "vit"]:
            raise ValueError(f"pretrained must be true, false, or have values for encoder and vit, got {pretrained!r}.")
        self.unet = TimmUNet(in_channels, out_channels, encoder, features, norm, weights["encoder"])
        # Attributes of timm's transformers, which nn.Module does not declare.
        self.vit = cast("Any", create_backbone(vit_name, weights["vit"], num_classes=0, image_size=vit_image_size))
        if getattr(self.vit, "patch_embed", None) is None:
            raise ValueError(f"vit_name: '{vit_name}' has no patch tokens: give a Vision Transformer.")
        self.vit_image_size = int(vit_image_size)
        self.vit_strides = [int(stride) for stride in vit_strides]
        if absent := [stride for stride in self.vit_strides if stride not in self.unet.channels]:
            raise ValueError(
                f"vit_strides: '{encoder}' with {len(features)} features has outputs of the strides "
                f"{', '.join(map(str, self.unet.channels))}, not {', '.join(map(str, absent))}."
            )
        channels, width = cast(Any, self.unet).channels, cast(Any, self.vit).embed_dim
        self.projections = nn.ModuleDict(
            {str(s): nn.Conv2d(width, channels[s], kernel_size=1) for s in self.vit_strides}
        )
        self._normalised = [
            _change(mean, std, cast(Any, part).pretrained_cfg) for part in (self.unet.encoder, self.vit)
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for_encoder, for_vit = (x * x.new_tensor(scale) + x.new_tensor(shift) for scale, shift in self._normalised)
        skips = self.unet.encode(for_encoder)
        size = [self.vit_image_size, self.vit_image_size]
        seen = F.interpolate(for_vit, size=size, mode="bilinear", align_corners=False)
        tokens = self.vit.forward_features(seen)[:, self.vit.num_prefix_tokens :]
        patches = tokens.transpose(1, 2).unflatten(2, self.vit.patch_embed.grid_size)
        for stride in self.vit_strides:
            level = skips[stride]
            resized = F.interpolate(
                patches, size=level.shape[-2:], mode="bilinear", align_corners=False, antialias=True
            )
            skips[stride] = level + self.projections[str(stride)](resized)
        return self.unet.decode(skips)


def _change(mean: Sequence[float], std: Sequence[float], published: dict[str, Any]) -> tuple[list, list]:
    """Factor and summand, (3, 1, 1), that change a normalisation to that of published weights."""
    before = zip(mean, std, published["mean"], published["std"], strict=True)
    pairs = [(s / to_s, (m - to_m) / to_s) for m, s, to_m, to_s in before]
    return [[[scale]] for scale, _ in pairs], [[[shift]] for _, shift in pairs]
