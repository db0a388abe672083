"""The data a bundle works on: the given folder, or generated phantoms, logged as a warning."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from ..data import mask_value, read_datalist
from .processes import first_alone

__all__ = ["dataset_folder", "mask_values", "phantom_folder", "preset"]

logger = logging.getLogger(__name__)

PHANTOM_SLICES, PHANTOM_SEED = 240, 0


def phantom_folder() -> Path:
    """Where generated phantoms are kept: under ``$MONAI_KD_HOME``, or ``~/.cache/monai_kd``."""
    home = Path(os.environ.get("MONAI_KD_HOME") or Path.home() / ".cache" / "monai_kd").expanduser()
    return home / f"phantoms-{PHANTOM_SLICES}-{PHANTOM_SEED}"


def preset(dataset_dir: str | None, given: bool = False) -> str:
    """``"demo"``, networks small enough for phantoms on a CPU, when no data set is given; ``"full"`` otherwise.

    Args:
        dataset_dir: folder of a data set, or ``None``.
        given: whether the slices are given one by one instead, see `given_data`: ``"labelling"``.
    """
    return "labelling" if given else "demo" if dataset_dir is None else "full"


def dataset_folder(dataset_dir: str | None, phantoms: bool = True) -> str:
    """The data set folder to use, absolute; without one, phantoms are made once, and it is said.

    Args:
        dataset_dir: folder with ``datalist.json``, or ``None``.
        phantoms: whether phantoms will do; there are none of volumes.

    Raises:
        FileNotFoundError: a folder was given and is not there, or holds no data list.
        ValueError: none was given, and phantoms will not do.
    """
    if dataset_dir is not None:
        # Whether it may name files elsewhere is for those to say who read them.
        read_datalist(dataset_dir, allow_outside=True)
        return str(Path(dataset_dir).expanduser().resolve())
    if not phantoms:
        raise ValueError("dataset_dir: give the folder of a data set, --dataset_dir FOLDER; see docs/volumes.md.")
    folder = phantom_folder()
    data = folder / "dataset"
    logger.warning("No dataset_dir was given: using SYNTHETIC phantom slices, which look like head MRI and are none.")
    with first_alone():
        if (data / "datalist.json").is_file():
            logger.warning("Phantoms made earlier are in %s. Give --dataset_dir FOLDER for your own slices.", data)
        else:
            # Raw-file readers are of no use to a run on real data or to a server.
            from data_prep.convert import convert
            from data_prep.phantom import write_phantoms

            logger.warning(
                "Making %d phantom slices in %s. Give --dataset_dir FOLDER for your own.", PHANTOM_SLICES, folder
            )
            write_phantoms(folder / "raw", slices=PHANTOM_SLICES, seed=PHANTOM_SEED)
            convert(folder / "raw", data)
    return str(data)


def mask_values(dataset_dir: str | None, out_channels: int) -> Mapping[int, int] | int | None:
    """Which values mask files may hold, for `monai_kd.transforms.DeclaredMask`.

    Args:
        dataset_dir: folder whose data list declares it; ``None`` for slices that are given one by one.
        out_channels: of the network. Masks that are given for several classes hold the indices of the classes.

    Example:
        >>> mask_values(None, 1), mask_values(None, 3)
        (None, {1: 1, 2: 2})
    """
    if dataset_dir is not None:
        return mask_value(dataset_dir)
    return {index: index for index in range(1, out_channels)} if out_channels > 1 else None
