"""The data set that a bundle works on: the given folder, or else generated phantoms."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..config import default_device
from ..data import NO_TUMOUR, datalist_path, mask_value, read_datalist
from ..data.foreign_lists import UNCLASSED
from ..transforms import RandRemoveTumourd, RemoveTumourd
from .processes import rank_zero_first

__all__ = ["cache_folder", "dataset_folder", "made_negatives", "mask_values", "phantom_folder", "preset"]

logger = logging.getLogger(__name__)

PHANTOM_SLICES, PHANTOM_SEED = 240, 0


def _home() -> Path:
    return Path(os.environ.get("MONAI_KD_HOME") or Path.home() / ".cache" / "monai_kd").expanduser()


def phantom_folder() -> Path:
    """The folder of the generated phantoms, in ``$MONAI_KD_HOME`` or else ``~/.cache/monai_kd``."""
    return _home() / f"phantoms-{PHANTOM_SLICES}-{PHANTOM_SEED}"


def cache_folder() -> str:
    """The folder of prepared slices of all data sets, beside the phantoms, see `monai_kd.data.CheckedDataset`."""
    return str(_home() / "slices")


def preset(dataset_dir: str | None, given: bool = False) -> str:
    """Name of the preset of a run; without a GPU, a warning is logged where it is ``"full"``.

    Args:
        dataset_dir: folder of a data set, or ``None``.
        given: whether the slices are given one by one, see `given_data`.

    Returns:
        ``"labelling"`` for slices that are given one by one; ``"demo"``, with networks small enough for phantoms on a
        CPU, when no data set is given; ``"full"`` otherwise.
    """
    if given:
        return "labelling"
    if dataset_dir is None:
        return "demo"
    if default_device() == "cpu":
        logger.warning(
            "There is no GPU, and the networks and images of the preset full are made for one: on a CPU, a training "
            "takes hours to days. For a trial in minutes, give --preset demo --epochs 8."
        )
    return "full"


def dataset_folder(dataset_dir: str | None, phantoms: bool = True) -> str:
    """The absolute path of the data set folder; without one, phantoms are made once, which is logged as a warning.

    Args:
        dataset_dir: folder with ``datalist.json``, or ``None``.
        phantoms: whether phantoms may be used; there are no phantom volumes.

    Raises:
        FileNotFoundError: the given folder does not exist, or holds no data list.
        ValueError: no folder was given, and phantoms may not be used.
    """
    if dataset_dir is not None:
        # Whether entries may name files outside the folder is checked where the files are read.
        read_datalist(dataset_dir, allow_outside=True)
        return str(Path(dataset_dir).expanduser().resolve())
    if not phantoms:
        raise ValueError("dataset_dir: give the folder of a data set, --dataset_dir FOLDER; see docs/volumes.md.")
    folder = phantom_folder()
    data = folder / "dataset"
    logger.warning("No dataset_dir was given: using SYNTHETIC phantom slices, which only resemble head MRI.")
    with rank_zero_first():
        if (data / "datalist.json").is_file():
            logger.warning("Phantoms made earlier are in %s. Give --dataset_dir FOLDER for your own slices.", data)
        else:
            _make_phantoms(folder, data)
    return str(data)


def _make_phantoms(folder: Path, data: Path) -> None:
    # Imported here: runs on real data and servers do not need the readers of raw files.
    from data_prep.convert import convert
    from data_prep.lock import only_writer
    from data_prep.phantom import write_phantoms

    with only_writer(folder, wait=True):
        # Several first runs may have been started at once.
        if not (data / "datalist.json").is_file():
            line = "Making %d phantom slices in %s. Give --dataset_dir FOLDER for your own."
            logger.warning(line, PHANTOM_SLICES, folder)
            write_phantoms(folder / "raw", slices=PHANTOM_SLICES, seed=PHANTOM_SEED)
            convert(folder / "raw", data)


def made_negatives(probability: float, class_names: Sequence[str], fixed: bool = False) -> list[Callable]:
    """Transforms that make slices of the class "no tumour", for a classification; none for a probability of 0.

    Args:
        probability: with which a slice loses its tumour.
        class_names: of the network.
        fixed: whether always the same slices lose it, see `RemoveTumourd`, as for validation; otherwise other ones each
            time, see `RandRemoveTumourd`.

    Raises:
        ValueError: "no tumour" is none of the classes.
    """
    if not probability:
        return []
    if NO_TUMOUR not in class_names:
        raise ValueError(
            f"the network knows the classes {', '.join(class_names)}, and not '{NO_TUMOUR}': leave negative_share at "
            "0, or take a network that was trained with a negative_probability above 0."
        )
    transform = RemoveTumourd if fixed else RandRemoveTumourd
    return [transform(("image", "label"), probability, class_number=list(class_names).index(NO_TUMOUR))]


def mask_values(dataset_dir: str | None, out_channels: int) -> Mapping[int, int] | int | None:
    """The values that mask files may hold, for `monai_kd.transforms.DeclaredMask`.

    Args:
        dataset_dir: folder whose data list declares the values; ``None`` for slices that are given one by one.
        out_channels: output channels of the network. For several classes, masks that are given one by one hold the
            indices of the classes.

    Raises:
        FileNotFoundError, ValueError: as `monai_kd.data.mask_value`; or the data list names several labels and no
            classes of images, so that files may hold different ones.

    Example:
        >>> mask_values(None, 1), mask_values(None, 3)
        (None, {1: 1, 2: 2})
    """
    if dataset_dir is not None:
        declared, datalist = mask_value(dataset_dir), read_datalist(dataset_dir, allow_outside=True)
        named = datalist.get("labels")
        labels = list(named.values()) if isinstance(named, Mapping) else []
        if datalist.get(UNCLASSED) and len(labels) > 1 and declared is None:
            raise ValueError(
                f"{datalist_path(dataset_dir)} names several labels ({', '.join(map(str, labels))}), and no "
                "image has a 'class': masks of one label are segmented here. Give 'mask_value', the value of the one "
                "to segment, or use the configs of docs/volumes.md, which take slices too."
            )
        return declared
    return {index: index for index in range(1, out_channels)} if out_channels > 1 else None
