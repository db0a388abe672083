"""The bundles that a label server serves."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..bundle import trained_settings
from ..inference import BundlePredictor
from ..io import SourceImage, read_source
from ..io.trained import FILES_OF_WEIGHTS, settings_path

__all__ = ["ServedBundle"]


class ServedBundle:
    """A bundle with its ``models/model.pt``, loaded when first asked, and again when training published another.

    Unlike MONAI Label's own tasks it loads strictly: weights that don't fit are an error, not a random network.

    Args:
        folder: of the bundle.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._loaded: dict[str, tuple[str, BundlePredictor]] = {}
        # One at a time: a predictor is no more thread-safe than its network's buffers, and memory is one.
        self._lock = threading.RLock()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "models" / "model.pt"

    @property
    def present(self) -> bool:
        """Whether there is a bundle with weights."""
        return (self.folder / "configs" / "inference.json").is_file() and self.checkpoint.is_file()

    @property
    def stamp(self) -> str:
        """Changes whenever other weights are published, or what was measured with them."""
        beside = (settings_path(self.checkpoint), *map(self.checkpoint.with_name, FILES_OF_WEIGHTS))
        return " ".join(str(file.stat().st_mtime_ns) for file in (self.checkpoint, *beside) if file.is_file())

    @property
    def description(self) -> str:
        return ConfigParser.load_config_file(self.folder / "configs" / "metadata.json")["description"]

    @property
    def labels(self) -> dict[str, int]:
        """Of a segmentation: names of the classes, and their indices in its masks.

        Raises:
            ValueError: ``settings.json`` beside the weights can't be read.
        """
        names = trained_settings(self.checkpoint, self.folder)["mask_names"]
        return {name: index for index, name in enumerate(names, 1)}

    def predictor(self, device: str) -> BundlePredictor:
        """The network on a device.

        Raises:
            ValueError: the weights don't fit the bundle.
        """
        with self._lock:
            when = self.stamp
            published, predictor = self._loaded.get(device, (None, None))
            if published != when or predictor is None:
                predictor = BundlePredictor(self.folder, self.checkpoint, device=device)
                self._loaded[device] = when, predictor
            return predictor

    def read(self, file: str, device: str) -> SourceImage:
        """An image as one of what the network was trained on, see `read_source`.

        Raises:
            UnreadableImage: it can't be used.
        """
        return read_source(file, of_head=self.predictor(device).of_head)

    def predict(self, source: SourceImage, device: str) -> dict[str, Any]:
        """The output of `BundlePredictor` for an image."""
        with self._lock:
            return self.predictor(device)(source.pixels, source.meta())
