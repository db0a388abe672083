"""Which volumes there are in a folder, whose channels are files of their own."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..io.kinds import stem_of
from .inputs import InputFiles, InputImage

__all__ = ["InputVolumes"]

logger = logging.getLogger(__name__)


class InputVolumes(InputFiles):
    """`InputFiles` in which the files of a folder that are named after the channels of one image are one item.

    A file belongs to the channel whose name its own ends with, whatever the case: ``flair.nii.gz``,
    ``BraTS20_001_flair.nii.gz`` and ``case7-FLAIR.nii`` to ``flair``. What comes before tells the images of a folder
    apart. In a folder with such files others, and a second file of a channel, are left out, logged as a warning; in one
    without, each file is an image with all its channels. Of a network with one channel, the images are those of
    `InputFiles`.

    Args:
        path: file or folder, or ``None``.
        output_dir: where the outputs go.
        modalities: names of the channels, in their order.
    """

    def __init__(self, path: str | Path | None, output_dir: str | Path, modalities: Sequence[str]) -> None:
        super().__init__(path, output_dir)
        self.modalities = [name.lower() for name in modalities]

    def _grouped(self, files: list[Path]) -> list[InputImage]:
        assert self.path is not None
        if self.path.is_file() or len(self.modalities) == 1:
            return super()._grouped(files)
        groups: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
        others: list[Path] = []
        for file in files:
            channel, rest = self._channel(stem_of(file.name))
            if channel is None:
                others.append(file)
            elif (first := groups[file.parent, rest].get(channel)) is not None:
                logger.warning(
                    "%s is left out: %s is the same channel of the same image.",
                    *(self._relative(file), self._relative(first)),
                )
            else:
                groups[file.parent, rest][channel] = file
        folders = {folder for folder, _ in groups}
        left_out = [self._relative(file) for file in others if file.parent in folders]
        if left_out:
            logger.warning("%d files are no channel of an image, %s …: left out.", len(left_out), left_out[0])
        images = [InputImage((file,), self._relative(file)) for file in others if file.parent not in folders]
        for (folder, rest), found in groups.items():
            if lacking := [name for name in self.modalities if name not in found]:
                logger.warning(
                    "%s has no file whose name ends with %s, which the network needs beside %s.",
                    *(self._relative(folder / rest if rest else folder), " or ".join(lacking), ", ".join(found)),
                )
            # Reading says of it that it can't be used.
            paths = tuple(found[name] for name in self.modalities if name in found)
            images.append(InputImage(paths, self._relative(folder / rest if rest else folder)))
        return images

    def _channel(self, stem: str) -> tuple[str | None, str]:
        """The channel that a file is of, and what of its name comes before."""
        for name in sorted(self.modalities, key=len, reverse=True):
            rest = stem[: len(stem) - len(name)]
            if stem.lower().endswith(name) and not rest[-1:].isalnum():
                return name, rest.rstrip("_-. ")
        return None, stem
