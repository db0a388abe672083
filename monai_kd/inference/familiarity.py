"""Whether an image looks to a network like those that it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..io.atomic import atomic_write
from ..io.trained import FAMILIARITY_FILE
from ..metrics.familiarity import FeatureReference
from ..networks.encoder_features import encoder_layers, features_of_passes, pooled_features
from .seen_slices import SeenSlices

__all__ = ["Familiarity"]


@dataclass(eq=False)
class Familiarity:
    """Pooled features of the encoder on training slices: their layers, and their distribution.

    Attributes:
        layers: modules of the network, see `encoder_layers`.
        reference: of their features, see `pooled_features`.
        seen: features of the slices that went through the network while `watching`.
        network: the last one that was watched.
    """

    layers: tuple[str, ...]
    reference: FeatureReference
    seen: SeenSlices = field(default_factory=SeenSlices, repr=False)
    network: nn.Module | None = field(default=None, repr=False)

    @classmethod
    def fit(cls, network: nn.Module, batches: Iterable[tuple[torch.Tensor, Sequence[str]]]) -> Familiarity:
        """Learn from training slices.

        Args:
            network: in evaluation mode.
            batches: slices as the network gets them, (B, C, H, W), on its device, and their B patients.

        Raises:
            ValueError: the network has no such layers, or as `FeatureReference.fit`.
        """
        layers, features, patients = list[str](), list[np.ndarray](), list[str]()
        for images, groups in batches:
            layers = layers or encoder_layers(network, images[:1])
            features.append(pooled_features(network, layers, images).double().cpu().numpy())
            patients += groups
        if not features:
            raise ValueError("there are no slices to learn from.")
        return cls(tuple(layers), FeatureReference.fit(np.concatenate(features), patients))

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Remember the features of slices that go through the network, so that `distances` has no pass of its own."""
        self.network = network

        def remember(images: torch.Tensor, features: torch.Tensor) -> None:
            self.seen.remember(images, features.double())

        with features_of_passes(network, self.layers, remember):
            yield

    def distances(self, images: torch.Tensor) -> np.ndarray:
        """Of each slice, see `FeatureReference.distances`. Slices that were not `seen` go through the network again.

        Args:
            images: as the network gets them.

        Shape:
            - images: (B, C, H, W)
            - result: (B,)

        Raises:
            ValueError: the features are of another network, or no network has been watched.
        """
        features = self.seen.recall(images)
        if features is None:
            if self.network is None:
                raise ValueError("no network has been watched.")
            place = next(self.network.parameters()).device
            features = pooled_features(self.network, self.layers, images.to(place)).double().cpu()
        rows = features.numpy()
        if rows.shape[1] != len(self.reference.mean):
            raise ValueError(
                f"{FAMILIARITY_FILE} is of features of {len(self.reference.mean)} channels, and the layers of the "
                f"network have {rows.shape[1]}: run python -m monai_kd familiarity again, or remove the file."
            )
        return self.reference.distances(rows)

    def check(self, network: nn.Module) -> None:
        """Check that a network has the layers.

        Raises:
            ValueError: it has not.
        """
        if lacking := sorted(set(self.layers) - dict(network.named_modules()).keys()):
            raise ValueError(
                f"{FAMILIARITY_FILE} is of layers that the network does not have ({', '.join(lacking)}): run "
                "python -m monai_kd familiarity again, or remove the file."
            )

    def save(self, path: str | Path, sha256: str) -> None:
        """Write a safetensors file.

        Args:
            path: where to; written whole or not at all.
            sha256: of the checkpoint that the features are of.
        """
        tensors = {
            "mean": torch.from_numpy(self.reference.mean),
            "precision": torch.from_numpy(self.reference.precision).contiguous(),
            "usual": torch.tensor(self.reference.usual, dtype=torch.float64),
        }
        with atomic_write(Path(path)) as partial:
            # `save_file` would make a file that only its owner can read.
            partial.write_bytes(save(tensors, {"layers": ",".join(self.layers), "weights_sha256": sha256}))

    @classmethod
    def load(cls, path: str | Path) -> tuple[Familiarity, str]:
        """Read what `save` wrote, and the SHA-256 of the checkpoint.

        Raises:
            ValueError: it is no such file.
        """
        try:
            with safe_open(str(path), "numpy") as file:
                described = file.metadata()
                mean, precision, usual = (file.get_tensor(name) for name in ("mean", "precision", "usual"))
            reference = FeatureReference(mean, precision, float(usual))
            if precision.shape != (*mean.shape, *mean.shape):
                raise ValueError("its shapes do not fit together")
            if not (np.isfinite(mean).all() and np.isfinite(precision).all() and 0 < reference.usual < np.inf):
                raise ValueError("its values are not finite")
            if not all(layers := tuple(described["layers"].split(","))):
                raise ValueError("it names no layers")
            return cls(layers, reference), described["weights_sha256"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is none that python -m monai_kd familiarity wrote ({error}): run it again, or remove the file."
            ) from error
