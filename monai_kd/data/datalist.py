"""Reading ``datalist.json``, the interface between data preparation and all that uses the data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.text import printable

from ..io.checksum import file_sha256
from ..io.folders import same_folder
from .entries import checked_entries
from .foreign_lists import UNCLASSED, completed, datalist_path
from .negatives import NO_TUMOUR

__all__ = [
    "check_inside",
    "class_name",
    "class_names",
    "data_known",
    "marked_synthetic",
    "mask_value",
    "placed",
    "read_datalist",
    "same_data",
    "titled",
    "trainings",
]


def read_datalist(dataset_dir: str | Path, allow_outside: bool = False) -> dict:
    """Read the data list of a data set folder, see `datalist_path`; what other formats lack is added, see `completed`.

    Args:
        dataset_dir: the folder.
        allow_outside: whether entries may name files outside the folder, by an absolute path, by ``..`` or through a
            link. With a data list from an untrusted source, that would give access to any file of this computer.

    Raises:
        FileNotFoundError: the folder or its ``datalist.json`` does not exist.
        ValueError: the file is not a data list, lists no slices, an entry is not as it must be, see `checked_entries`,
            or names a file outside the folder.
    """
    folder = Path(dataset_dir).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"dataset_dir: there is no folder {folder}.")
    path = datalist_path(folder)
    if not path.is_file():
        raise FileNotFoundError(
            f"dataset_dir: {folder} holds no datalist.json; make it from raw files with "
            f"`python -m data_prep figshare RAW_FILES {folder}`."
        )
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
        entries = datalist["training"]
        if not isinstance(entries, list):
            raise TypeError(f"'training' is a {type(entries).__name__}")
        datalist = completed(datalist, path)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        # Not its representation: that of an error in UTF-8 holds the whole list, with the names of patients.
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is not a data list: it must be JSON with a list 'training' ({why}).") from error
    if not entries:
        raise ValueError(f"{path} lists no slices.")
    entries = datalist["training"] = checked_entries(datalist, path)
    if not allow_outside:
        check_inside(folder, entries, ("image", "label"))
    return datalist


def check_inside(folder: Path, entries: Sequence[dict], keys: Sequence[str]) -> None:
    """Refuse entries that name files outside the folder.

    Raises:
        ValueError: a file of one of ``keys`` is outside, by an absolute path, by ``..`` or through a link.
    """
    real = os.path.realpath(folder)
    for number, entry in enumerate(entries):
        for key in keys:
            given = entry.get(key)
            for named in given if isinstance(given, list) else [given]:
                # A value that is not a path is refused where a path is needed.
                if not isinstance(named, str) or "\0" in named:
                    continue
                target = os.path.realpath(os.path.join(real, named))
                if not Path(target).is_relative_to(real):
                    raise ValueError(
                        printable(
                            f"{datalist_path(folder)}: '{key}' of entry {number}, '{named}', is a file outside the "
                            f"folder, {target}; set allow_outside to True if you trust this data list."
                        )
                    )


def placed(folder: str | Path, image: str | Sequence[str]) -> str | list[str]:
    """The path of an image of a data list, with its folder; a list of paths for a list with a file for each channel.

    Example:
        >>> placed("data", ["flair.nii.gz", "t1.nii.gz"])
        ['data/flair.nii.gz', 'data/t1.nii.gz']
    """
    return str(Path(folder) / image) if isinstance(image, str) else [str(Path(folder) / each) for each in image]


def marked_synthetic(title: str, synthetic: bool) -> str:
    """The title of a picture, which says so if its slices are drawn."""
    return f"SYNTHETIC phantoms: {title}" if synthetic else title


def titled(title: str, dataset_dir: str | Path | None) -> str:
    """The title of a picture of a data set, see `marked_synthetic`.

    Example:
        >>> titled("teacher", None)
        'teacher'

    Args:
        title: the rest of the title.
        dataset_dir: folder with a data list, which says whether it is synthetic; ``None``: images given one by one.

    Raises:
        FileNotFoundError, ValueError: as for `read_datalist`.
    """
    known = dataset_dir is not None and read_datalist(dataset_dir, allow_outside=True)  # no file is read
    return marked_synthetic(title, bool(known and known.get("synthetic", False)))


def class_names(dataset_dir: str | Path, negatives: bool = False) -> list[str]:
    """Names of the classes in the order of their numbers from 0; ``labels`` of the data list counts them from 1.

    Images of lists of the Decathlon and of Auto3DSeg have no class: their ``labels`` name the values of masks, whatever
    these are, or are missing; then there are no names.

    Args:
        dataset_dir: folder with ``datalist.json``.
        negatives: whether "no tumour" is the last class where ``labels`` does not name it.

    Raises:
        FileNotFoundError, ValueError: as for `read_datalist`.
        ValueError: the keys of ``labels`` are not ``"1"``, ``"2"``, … without gaps, or two classes have the same name.
    """
    datalist = read_datalist(dataset_dir, allow_outside=True)  # no file is read
    labels = datalist.get("labels")
    if datalist.get(UNCLASSED) and labels is None:
        return []
    if datalist.get(UNCLASSED) and isinstance(labels, dict):
        labels = {str(place): name for place, name in enumerate(labels.values(), 1)}
    keys = [str(number + 1) for number in range(len(labels))] if isinstance(labels, dict) else []
    if not isinstance(labels, dict) or not keys or set(labels) != set(keys):
        # In other data lists "0" is the background: every class would get the name of another one.
        raise ValueError(
            f'{datalist_path(dataset_dir)}: the keys of \'labels\' must be "1", "2", … without '
            f'gaps and without a background: "1" is the name of class 0; got {labels!r}.'
        )
    names = [labels[key] for key in keys]
    if len(set(map(str, names))) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(
            f"{datalist_path(dataset_dir)}: 'labels' must give each class a name of its own, got {labels!r}."
        )
    return [*names, NO_TUMOUR] if negatives and NO_TUMOUR not in names else names


def class_name(names: Sequence[str], number: int) -> str:
    """The name of a class by its number, from 0, or ``"class <number>"`` if it has none.

    Example:
        >>> class_name(["meningioma", "glioma"], 1), class_name(["meningioma", "glioma"], 2)
        ('glioma', 'class 2')
    """
    return names[number] if number < len(names) else f"class {number}"


def mask_value(dataset_dir: str | Path) -> int | None:
    """The value of tumour pixels in the masks, or ``None`` if the data list has no ``mask_value``.

    Both are arguments of `monai_kd.transforms.DeclaredMask`.

    Raises:
        FileNotFoundError, ValueError: as for `read_datalist`.
        ValueError: ``mask_value`` is not a whole number from 1.
    """
    value = read_datalist(dataset_dir, allow_outside=True).get("mask_value")  # no file is read
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(
            f"{datalist_path(dataset_dir)}: 'mask_value' must be the value of tumour pixels in "
            f"the masks, a whole number from 1, got {value!r}."
        )
    return value


def data_known(trained: Mapping[str, Any]) -> bool:
    """Whether the settings of a network tell on which data set it was trained, see `same_data`."""
    return trained.get("dataset_dir") is not None or trained.get("datalist_sha256") is not None


def same_data(trained: Mapping[str, Any], dataset_dir: str | Path) -> bool:
    """Whether a network was trained on the data set of a folder: one with this data list, or this folder.

    Args:
        trained: ``datalist_sha256`` and ``dataset_dir``, as ``settings.json`` has them, where they are known.
        dataset_dir: folder with ``datalist.json``.
    """
    known, folder = trained.get("datalist_sha256"), trained.get("dataset_dir")
    if known is not None and known == file_sha256(datalist_path(dataset_dir)):
        return True
    return folder is not None and same_folder(folder, dataset_dir)


def trainings(trained: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings of all trainings that a network has seen slices in, for `data_known` and `same_data`.

    Of an ensemble, they are those of its networks, also within ensembles, and its own where all networks were trained
    on the same data. Otherwise, a network whose data are not known has empty settings, since it is not known what its
    ``fold`` is a fold of.

    Example:
        >>> trainings({"fold": None, "ensemble_of": [{"fold": 1, "datalist_sha256": "a1"}, {"fold": 0}]})
        [{'fold': 1, 'datalist_sha256': 'a1'}, {}]
    """
    found = [each for member in trained.get("ensemble_of") or [] for each in trainings(member)]
    if not found or data_known(trained):
        # The data list may have been changed since: the folder, which the ensemble alone has, then tells.
        data = {name: trained[name] for name in ("dataset_dir", "datalist_sha256") if trained.get(name) is not None}
        return [trained, *({**each, **data} for each in found)]
    return [each if data_known(each) else {} for each in found]
