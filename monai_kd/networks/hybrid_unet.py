"""U-Net with a Vision Transformer beside its encoder: the segmentation teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import nn

from .backbone import create_backbone
from .upcat import pad_where_needed

__all__ = ["HybridUNet"]


class HybridUNet(nn.Module):
    """MONAI's ``BasicUNet`` whose bridge also receives the global view of a Vision Transformer.

    The image is resized to the transformer's input, its pooled feature vector v is projected to the channels of the
    bridge, and added at every position: ``bridge(x) + P(v(resize(x)))``. The attribute ``unet`` has the same class as
    the student, so that taps have the same names in both (``upcat_4`` … ``upcat_1``), here with the prefix ``unet.``.

    Args:
        in_channels: channels of the image; the transformer takes three.
        out_channels: channels of the logits.
        features: channels of the four encoder levels, of the bridge, and of the last decoder level.
        norm: normalisation of the U-Net, by its name in MONAI.
        vit_name: a Vision Transformer of timm.
        vit_image_size: side of the transformer's square input, in pixels; a multiple of its patch size.
        pretrained: transformer weights: ``False``, ``True`` (downloaded) or a local file, see `create_backbone`.

    Shape:
        - input: (B, in_channels, H, W)
        - output: (B, out_channels, H, W), logits

    Raises:
        ValueError: ``in_channels`` is not 3, or there is no model ``vit_name``.

    Example:
        >>> net = HybridUNet(features=(4, 4, 8, 8, 16, 4), vit_name="vit_tiny_patch16_224", vit_image_size=32)
        >>> net(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        features: Sequence[int] = (64, 128, 256, 512, 1024, 64),
        norm: str = "batch",
        vit_name: str = "vit_base_patch16_224",
        vit_image_size: int = 224,
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        if in_channels != 3:
            raise ValueError(f"the Vision Transformer takes three channels, got in_channels={in_channels}.")
        unet = BasicUNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            features=tuple(features),
            act=("relu", {"inplace": True}),
            norm=norm,
        )
        self.unet = pad_where_needed(unet)
        self.vit = create_backbone(vit_name, pretrained, num_classes=0, image_size=vit_image_size, scriptable=True)
        self.vit_image_size = int(vit_image_size)
        self.projection = nn.Linear(cast("int", self.vit.num_features), features[4])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        unet = self.unet
        x0 = unet.conv_0(x)
        x1 = unet.down_1(x0)
        x2 = unet.down_2(x1)
        x3 = unet.down_3(x2)
        seen = F.interpolate(x, size=[self.vit_image_size, self.vit_image_size], mode="bilinear", align_corners=False)
        x4 = unet.down_4(x3) + self.projection(self.vit(seen))[:, :, None, None]
        u4 = unet.upcat_4(x4, x3)
        u3 = unet.upcat_3(u4, x2)
        u2 = unet.upcat_2(u3, x1)
        u1 = unet.upcat_1(u2, x0)
        return unet.final_conv(u1)
