"""Data lists of volumes: the entries, the channels of an image, and the regions of a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .datalist import read_datalist
from .fold import load_fold
from .foreign_lists import UNCLASSED, datalist_path

__all__ = ["load_volumes", "modalities", "region_values"]


def load_volumes(
    dataset_dir: str | Path,
    fold: int | None,
    part: str,
    leave_out: Sequence[int] = (),
    allow_outside: bool = False,
    **labels: Any,
) -> list[dict]:
    """`load_fold` where ``image`` may be a list with a file for each of the `modalities`, in their order.

    Args:
        dataset_dir, fold, part, leave_out, allow_outside: as for `load_fold`.
        labels: ``labelled_share`` and ``unlabelled`` of `load_fold`, which needs all labels here.

    Raises:
        FileNotFoundError, ValueError: as for `load_fold`.
        ValueError: a list has more files, or fewer, than there are modalities.
    """
    entries = load_fold(dataset_dir, fold, part, leave_out, allow_outside, channel_files=True, **labels)
    names = modalities(dataset_dir)
    for entry in entries:
        if isinstance(entry["image"], list) and len(entry["image"]) != len(names):
            raise ValueError(
                f"{datalist_path(dataset_dir)}: the image {', '.join(entry['image'])} has "
                f"{len(entry['image'])} files, and 'modality' names {len(names)} channels, "
                f"{', '.join(names)}: list a file for each, in this order."
            )
    return entries


def modalities(dataset_dir: str | Path) -> list[str]:
    """Names of the channels of an image, from ``modality`` of the data list.

    The format is that of the Medical Segmentation Decathlon: a name for each channel, from 0 without gaps, such as
    ``{"0": "FLAIR", "1": "T1w"}``.

    Raises:
        FileNotFoundError, ValueError: as for `read_datalist`.
        ValueError: ``modality`` is missing or has another format, or two channels have the same name but for the case.
    """
    named = read_datalist(dataset_dir, allow_outside=True).get("modality")  # no file is read
    names: list[Any] = [named.get(str(number)) for number in range(len(named))] if isinstance(named, dict) else []
    texts = [name.lower() for name in names if isinstance(name, str) and name]
    if not names or len(set(texts)) < len(names):
        raise ValueError(
            f"{datalist_path(dataset_dir)}: 'modality' must name the channels of an image from \"0\" without gaps, "
            f'such as {{"0": "FLAIR", "1": "T1w"}}; got {named!r}.'
        )
    return names


def region_values(dataset_dir: str | Path) -> dict[str, list[int]]:
    """``regions`` of the data list: the name of each region to its values in label files.

    In lists of the Decathlon, which have none, each of ``labels`` is a region. Regions may overlap, as in BraTS:
    ``{"tumour core": [1, 4], "whole tumour": [1, 2, 4], "enhancing tumour": [4]}``.

    Raises:
        FileNotFoundError, ValueError: as for `read_datalist`.
        ValueError: ``regions`` is missing or has another format.
    """
    datalist = read_datalist(dataset_dir, allow_outside=True)  # no file is read
    regions: Any = datalist.get("regions")
    if regions is None and datalist.get(UNCLASSED) and isinstance(datalist.get("labels"), Mapping):
        regions = {name: [int(number)] for number, name in datalist["labels"].items() if str(number).isdecimal()}
    if not isinstance(regions, Mapping) or not regions or not all(map(_whole_numbers, regions.values())):
        raise ValueError(
            f"{datalist_path(dataset_dir)}: 'regions' must give each region its values in label files, whole numbers "
            f'from 1, such as {{"whole tumour": [1, 2, 4], "enhancing tumour": [4]}}; got {regions!r}.'
        )
    return {name: list(values) for name, values in regions.items()}


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and len(values) > 0 and all(type(value) is int and value >= 1 for value in values)
