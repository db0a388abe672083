"""Which images there are in a file or a folder, and what the outputs are called."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.marker import MARKER
from data_prep.text import printable

from ..io.dicom import series_and_volumes
from ..io.dicom_frames import file_and_volume
from ..io.kinds import SUFFIXES, kind_of, stem_of
from ..io.order import natural_order
from .results import REMEMBERED, TABLES, named_files, remembered, result_rows

__all__ = ["InputFiles", "InputImage"]

logger = logging.getLogger(__name__)

# Bytes, of the 255 that file systems take, to which _overlay.png and the like are added.
LONGEST_NAME = 240


@dataclass(frozen=True)
class InputImage:
    """One slice or volume.

    Attributes:
        paths: its file, or the files of its DICOM series; of a volume in an enhanced DICOM object the path that names
            it, ``exam.dcm/phase-2``.
        label: the file, or the folder of the series, relative to the input folder; of a volume that path.
        name: what its outputs are called, with their folder, relative to the output folder, without suffix.
    """

    paths: tuple[Path, ...]
    label: str
    name: str = ""


class InputFiles(Sequence):
    """The images of a file or a folder, as items of a data set; nothing is looked at before the first question.

    An item is ``{"image": …, "file": …}``: a path, or the paths of a series, and its label. Without a path there are no
    items, so that a config can be looked at before it has an input.

    Folders are searched with all that is in them. Files that belong to one DICOM series and lie in one folder are one
    volume; a multi-frame file is as many as it has stacks and phases. Hidden files, the marker of a folder of phantoms,
    and the output folder when it lies inside, are left out; with a warning also the masks and pictures that the table
    of an earlier run, in their folder or above, names as its own.

    Args:
        path: file or folder, or one volume of a file, ``exam.dcm/phase-2``; or ``None``.
        output_dir: where the outputs go.
    """

    def __init__(self, path: str | Path | None, output_dir: str | Path) -> None:
        # Absolute, since images are kept in plans for other processes, and MONAI takes `~name` at its start for a home.
        self.path, self.volume = (None, "")
        if path is not None:
            self.path, self.volume = file_and_volume(Path(path).expanduser().absolute())
        self.output_dir = Path(output_dir).expanduser()

    @cached_property
    def images(self) -> list[InputImage]:
        """All images, in the `natural_order` of their labels.

        Raises:
            FileNotFoundError: there is no such file or folder.
            ValueError: it holds no supported file, or no volume of that name, or the outputs would go among the inputs.
        """
        if self.path is None:
            return []
        if not self.path.exists():
            raise FileNotFoundError(f"input: there is no file or folder {self.path}.")
        if self.path.is_dir() and self.path.resolve() == self.output_dir.resolve():
            raise ValueError(f"output_dir must not be the input folder {self.path}: masks would become inputs.")
        images = self._grouped([file for file, kind in self._kinds.items() if kind is not None])
        if self.volume:
            images = self._named_volume(images)
        if not images:
            raise ValueError(
                f"input: {self.path} holds no file of a supported kind; supported are {', '.join(SUFFIXES)}, and "
                "DICOM under any name."
            )
        return _named(sorted(self._told_apart(images), key=lambda image: natural_order(image.label)))

    def _named_volume(self, images: list[InputImage]) -> list[InputImage]:
        volumes = {file_and_volume(image.paths[0])[1]: image for image in images}
        if self.volume in volumes:
            return [volumes[self.volume]]
        held = ", ".join(filter(None, volumes))
        raise ValueError(f"input: {self.path} holds no volume {self.volume}; it holds {held or 'one image'}.")

    @cached_property
    def skipped(self) -> list[str]:
        """Files of no supported kind, relative to the input folder."""
        return [self._relative(file) for file, kind in self._kinds.items() if kind is None]

    @cached_property
    def unreadable(self) -> dict[str, str]:
        """Folders within the input folder that can't be listed, relative to it, and why."""
        closed = ((self._relative(path), reason) for path, reason in self._found[1].items())
        return dict(sorted(closed, key=lambda each: natural_order(each[0])))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        image = self.images[index]
        paths = [str(path) for path in image.paths]
        return {"image": paths[0] if len(paths) == 1 else paths, "file": image.label}

    def labelled(self, label: str) -> InputImage:
        """The image of an item's ``file``."""
        return self._by_label[label]

    def of(self, path: str | Path) -> InputImage:
        """The image whose file, or whose series' first file, is ``path``."""
        return self._by_path[str(path)]

    @cached_property
    def _by_label(self) -> dict[str, InputImage]:
        return {image.label: image for image in self.images}

    @cached_property
    def _by_path(self) -> dict[str, InputImage]:
        return {str(image.paths[0]): image for image in self.images}

    def _told_apart(self, images: list[InputImage]) -> Iterator[InputImage]:
        """Images of one label, such as a series in ``scan`` and one in ``scan/scan``, get that of their first file."""
        shared, taken = Counter(image.label for image in images), set[str]()
        for image in images:
            label = image.label if shared[image.label] == 1 else self._relative(image.paths[0])
            own, number = label, 1
            while own in taken or (own != image.label and own in shared):
                number += 1
                own = f"{label} ({number})"
            taken.add(own)
            yield InputImage(image.paths, own)

    def _relative(self, path: Path) -> str:
        if path == self.path:
            return path.name if path.name not in ("", "..") else path.resolve().name
        return path.relative_to(self._given if self._given.is_dir() else self._given.parent).as_posix()

    @property
    def _given(self) -> Path:
        if self.path is None:
            raise ValueError("there is no input: give --input FILE_OR_FOLDER.")
        return self.path

    @cached_property
    def _found(self) -> tuple[list[Path], dict[Path, str]]:
        """All files, and folders that can't be listed."""
        if self._given.is_file():
            return [self._given], {}
        errors = list[OSError]()
        files = sorted(self._walk(errors), key=lambda path: natural_order(str(path)))
        return files, {Path(error.filename): f"the folder can't be read: {error.strerror}" for error in errors}

    @cached_property
    def _kinds(self) -> dict[Path, str | None]:
        """The kind of each file, which is opened for that where its name does not show it."""
        return {file: kind_of(file) for file in self._found[0]}

    def _walk(self, errors: list[OSError]) -> Iterator[Path]:
        seen, outputs, results = set(), self.output_dir.resolve(), set[Path]()
        for folder, folders, files in os.walk(self._given, onerror=errors.append, followlinks=True):
            real = Path(folder).resolve()
            if real in seen or real == outputs:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted({*TABLES, REMEMBERED} & set(files)):
                results |= _results_of(Path(folder, name))
            paths = (Path(folder, name) for name in files if not name.startswith(".") and name != MARKER)
            yield from (path for path in paths if path not in results)

    def _grouped(self, files: list[Path]) -> list[InputImage]:
        """Put the files of a series together."""
        images, groups = [], defaultdict(list)
        for file in files:
            series, volumes = series_and_volumes(file) if self._kinds[file] == "dicom" else (None, [])
            if volumes:
                label = self._relative(file)
                named = ((path, file_and_volume(path)[1]) for path in volumes)
                images += [InputImage((path,), f"{label}/{volume}" if volume else label) for path, volume in named]
            elif series is None or not self._given.is_dir():
                # A file given by itself is a slice by itself, whatever lies beside it.
                images.append(InputImage((file,), self._relative(file)))
            else:
                groups[file.parent, series].append(file)
        several = Counter(folder for (folder, _), members in groups.items() if len(members) > 1)
        for (folder, _), members in groups.items():
            alone = len(members) > 1 and several[folder] == 1
            images.append(InputImage(tuple(members), self._relative(folder if alone else members[0])))
        return images


def _results_of(table: Path) -> set[Path]:
    """What runs wrote whose table this is, or list of earlier files; nothing, where it is another table."""
    try:
        names = remembered(table.parent) if table.name == REMEMBERED else named_files(result_rows(table))
        found = {path for name in names if (path := table.parent / name).is_file()}
    except (OSError, ValueError):
        return set()
    if found:
        logger.warning("input: %d files are left out, which %s names as results.", len(found), printable(str(table)))
    return found


def _shortened(name: str) -> str:
    """The name with its last part cut so that endings fit behind it, and made its own again by a hash of the whole."""
    folder, slash, last = name.rpartition("/")
    encoded = os.fsencode(last)
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    cut = encoded[: LONGEST_NAME - len(digest) - 1].decode("utf-8", "ignore")
    return f"{folder}{slash}{cut}-{digest}"


def _stem_and_volume(image: InputImage) -> tuple[str, str]:
    """What the outputs of an image are called, and what is added for a volume of a file."""
    _, volume = file_and_volume(image.paths[0])
    return (stem_of(image.label.removesuffix(f"/{volume}")), f"_{volume}") if volume else (stem_of(image.label), "")


def _named(images: list[InputImage]) -> list[InputImage]:
    """Name outputs by the stem of the file, cut where it is too long; by the suffix too, where two share a stem."""
    # Some file systems take A.png and a.png for the same.
    parts = [_stem_and_volume(image) for image in images]
    shared = Counter("".join(part).lower() for part in parts)
    taken: set[str] = set()
    named = []
    for image, (stem, volume) in zip(images, parts, strict=True):
        if shared[(stem + volume).lower()] > 1:
            stem += image.label.removesuffix(f"/{volume[1:]}")[len(stem) :].replace(".", "_")
        stem += volume
        name, number = _shortened(stem), 1
        while name.lower() in taken:
            number += 1
            name = _shortened(f"{stem}_{number}")
        taken.add(name.lower())
        named.append(InputImage(image.paths, image.label, name))
    return named
