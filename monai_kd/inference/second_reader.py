"""A classifier that knows "no tumour", asked about the slices of a segmentation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..config import build_network
from ..data import NO_TUMOUR
from ..distillation import AdaptInput, scaling_between
from ..engines import PlanarInferer
from ..engines.inferer import mirrored_logits
from ..io.atomic import atomic_write
from ..io.trained import READER_FILE
from ..metrics import joined_presence
from ..networks.class_outputs import log_odds_of_others

__all__ = ["SecondReader"]

# What of the settings of a classifier is needed to run it.
NEEDED = ("network_def", "class_names", "image_size", "in_channels", "mean", "std", "mirror")


class SecondReader:
    r"""The probability, by a classifier, that a slice shows a tumour: :math:`1 - P(\text{no tumour})`.

    The classifier gets the slices as the segmentation got them, resized and normalised for it, and averages over the
    mirror images that its settings name. Temperatures are not applied.

    Args:
        network: of the classifier, with its weights.
        settings: of the classifier, see `trained_settings`: `NEEDED`.
        images: settings of the segmentation, of which ``in_channels``, ``image_size``, ``mean`` and ``std`` are used.
        amp: autocast, see `monai_kd.engines.autocast`.

    Raises:
        ValueError: the classifier knows no class "no tumour", or takes channels that the slices don't have.

    Example:
        >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> of = {"image_size": 8, "in_channels": 3, "mean": None, "std": None}
        >>> reader = SecondReader(net, {**of, "class_names": ["a", "b", "no tumour"], "mirror": []}, of)
        >>> reader(torch.zeros(2, 3, 8, 8)).round(3)
        array([0.667, 0.667])
    """

    def __init__(
        self, network: nn.Module, settings: Mapping[str, Any], images: Mapping[str, Any], amp: bool = False
    ) -> None:
        names = list(settings["class_names"])
        if NO_TUMOUR not in names:
            raise ValueError(
                f"classifier: it knows {', '.join(names)}, and no class '{NO_TUMOUR}': take one that was trained with "
                "a negative_probability above 0."
            )
        taken, given = settings["in_channels"], images["in_channels"]
        if taken != given and given != 1:
            raise ValueError(f"classifier: it takes {taken} channels, and the slices have {given}.")
        self.network, self.free = network.eval().requires_grad_(False), names.index(NO_TUMOUR)
        self.settings = {name: settings[name] for name in NEEDED if name in settings}
        self.convert = AdaptInput(
            **scaling_between(images, settings),
            channels=None if taken == given else [0] * taken,
            size=settings["image_size"],
        )
        self.inferer = PlanarInferer(amp=amp, mirror=settings["mirror"])

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        """Of each slice.

        Shape:
            - images: (B, C, H, W), as the segmentation gets them
            - result: (B,)
        """
        place = next((each.device for each in self.network.parameters()), images.device)
        with torch.no_grad():
            logits = self.inferer(self.convert(images.to(place).float()), self.network)
        return 1 - logits.double().softmax(dim=1)[:, self.free].cpu().numpy()

    def joined(self, scores: np.ndarray, images: torch.Tensor) -> np.ndarray:
        """Presence scores (B,) of a segmentation together with this reader's, see `joined_presence`.

        Shape:
            - images: as for `__call__`
        """
        return joined_presence(scores, self(images))

    def watching(self, _network: nn.Module) -> AbstractContextManager[None]:
        """Nothing is to be remembered of a pass of the segmentation; see `OwnClasses`."""
        return nullcontext()

    def log_odds(self) -> nn.Module:
        """A network from slices, as for `__call__`, to the log-odds (B, 1) of a tumour, to be exported."""
        return _LogOdds(self)

    def content(self) -> bytes:
        """The file that `load` reads: weights and settings."""
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in self.network.state_dict().items()}
        return save(tensors, {"settings": json.dumps(self.settings)})

    @property
    def sha256(self) -> str:
        """By which an operating point names it."""
        return hashlib.sha256(self.content()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        with atomic_write(Path(path)) as partial:
            partial.write_bytes(self.content())

    @classmethod
    def load(cls, path: str | Path, images: Mapping[str, Any], amp: bool = False) -> SecondReader:
        """Read what `save` wrote.

        Raises:
            UntrustedNetwork: the network is not one of MONAI or of this package; see `build_network`.
            ValueError: it is no such file.
        """
        remedy = f"choose the operating point again, or restore {READER_FILE}."
        try:
            with safe_open(str(path), "pt") as file:
                settings = json.loads((file.metadata() or {})["settings"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            network = build_network(settings["network_def"], trusted=False)
            network.load_state_dict(state)
            return cls(network, settings, images, amp)
        except (SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no classifier that an evaluation wrote ({error}): {remedy}") from error


class _LogOdds(nn.Module):
    def __init__(self, reader: SecondReader) -> None:
        super().__init__()
        self.network, self.convert = reader.network, reader.convert
        self.mirror, self.free = tuple(reader.settings["mirror"]), reader.free

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = mirrored_logits(self.network, self.convert(image), self.mirror)
        return log_odds_of_others(found, self.free)
