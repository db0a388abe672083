"""A bundle's preprocessing on images that were read before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Compose, LoadImaged

from ..io.readers import Paths, ReadAlready, SourceReader
from ..io.source import SourceImage

__all__ = ["Preparation"]


class Preparation:
    """Preprocessing that begins with ``LoadImaged``, in two steps: reading a file, and all that follows.

    Args:
        preprocessing: ``LoadImaged`` with `SliceReader` or `VolumeReader`, or a ``Compose`` that begins with it.

    Raises:
        ValueError: it begins with something else.
    """

    def __init__(self, preprocessing: Callable) -> None:
        self._transforms = preprocessing if isinstance(preprocessing, Compose) else Compose([preprocessing])
        transforms: Sequence[Any] = self._transforms.transforms
        if not transforms or not isinstance(transforms[0], LoadImaged):
            raise ValueError("preprocessing must begin with LoadImaged.")
        self._load = transforms[0]
        reader = self._load._loader.readers[-1]  # the one that LoadImage tries first
        if not isinstance(reader, SourceReader):
            raise ValueError(
                "preprocessing must begin with LoadImaged with reader='monai_kd.io.SliceReader' or "
                f"'monai_kd.io.VolumeReader', got {type(reader).__name__}."
            )
        self._reader = reader

    def read(self, paths: Paths) -> SourceImage:
        """Read an image as ``LoadImaged`` would.

        Raises:
            UnreadableImage: a file can't be used; the message names it.
        """
        return self._reader.source(paths)

    def __call__(self, item: Mapping[Any, Any], pixels: np.ndarray, meta: Mapping[str, Any]) -> dict[Any, Any]:
        """Apply the transforms to an item whose image was read; no file is opened.

        Args:
            item: paths under the keys of ``LoadImaged``.
            pixels, meta: of the image, see `SourceImage`; they are not changed.
        """
        loaded = self._load(item, reader=ReadAlready(pixels, meta))
        return self._transforms(loaded, start=1)
