"""Fit, and find, what training slices look like to a trained network of slices."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    ScaleIntensityd,
)
from torch import nn

from data_prep.disk import check_writable
from data_prep.text import printable

from ..config import checked_device, default_device
from ..config.errors import one_line_errors
from ..data import data_known, load_fold, same_data
from ..inference.familiarity import Familiarity
from ..io.checksum import file_sha256
from ..io.network_name import network_name
from ..io.trained import FAMILIARITY_FILE, READER_FILE, TEMPERATURE_FILE, read_trained
from ..io.unreadable import reason_of
from ..metrics import needs_classifier_file
from ..transforms import slice_preprocessing
from .folder import bundle_folder
from .released import checkpoint_or_own
from .temperature import find_temperature
from .trained import trained_network, trained_settings

__all__ = ["familiarity_of", "files_of_weights", "fit_familiarity", "run_familiarity"]

logger = logging.getLogger(__name__)

SLICES = 1000
BATCH = 8


def familiarity_of(checkpoint: str | Path, network: nn.Module | None = None) -> Familiarity | None:
    """Of ``familiarity.safetensors`` beside a checkpoint; ``None`` where there is none for it.

    One of another checkpoint, as before a further training, is not used; this is logged as a warning.

    Args:
        checkpoint: weights, also where they are not there yet.
        network: whose layers the file must name.

    Raises:
        ValueError: the file is damaged, or of another network.
    """
    checkpoint = Path(checkpoint).expanduser()
    path = checkpoint.with_name(FAMILIARITY_FILE)
    if not path.is_file() or not checkpoint.is_file():
        return None
    familiarity, sha256 = Familiarity.load(path)
    if sha256 == file_sha256(checkpoint):
        if network is not None:
            familiarity.check(network)
        return familiarity
    logger.warning("%s is not used: it is of another checkpoint than %s.", path, checkpoint.name)
    return None


def files_of_weights(checkpoint: str | Path) -> dict[str, Path]:
    """Name and path of the files that hold for a checkpoint alone, and decide with it: see `find_temperature` and
    `familiarity_of`; ``settings.json`` is none of them.
    """
    found = {TEMPERATURE_FILE: find_temperature(checkpoint)}
    if familiarity_of(checkpoint) is not None:
        found[FAMILIARITY_FILE] = Path(checkpoint).expanduser().with_name(FAMILIARITY_FILE)
    if needs_classifier_file((read_trained(checkpoint) or {}).get("operating_point")):
        found[READER_FILE] = Path(checkpoint).expanduser().with_name(READER_FILE)
    return {name: path for name, path in found.items() if path is not None}


def fit_familiarity(bundle: Path, checkpoint: Path, dataset_dir: Path, device: str | None = None) -> Path:
    """Write ``familiarity.safetensors`` beside a checkpoint, from the slices that it was trained on.

    Up to `SLICES` of them, evenly chosen, are taken as they are, and once more with noise, blur, a bias field and
    another contrast, so that these are usual too.

    Args:
        bundle: of a segmentation or a classification of slices.
        checkpoint: weights of its network, with ``settings.json``.
        dataset_dir: the data set of the training; the fold that was held out is left out.
        device: default: a GPU if there is one.

    Raises:
        FileNotFoundError, ValueError: as of `trained_settings` and `load_fold`; or the network is none of slices, or
            has no such layers.
    """
    trained = trained_settings(checkpoint, bundle)
    check_writable(checkpoint.parent)
    if trained["spatial_dims"] != 2:
        raise ValueError(f"{bundle.name}, {checkpoint}: only networks of slices judge their input.")
    place = torch.device(device or default_device())
    network = trained_network(trained, checkpoint).to(place).eval()
    part = "all" if trained["fold"] is None else "training"
    outside = bool(trained.get("allow_outside", False))
    labels = {"labelled_share": trained["labelled_share"], "unlabelled": trained["teacher"] is not None}
    entries = load_fold(dataset_dir, trained["fold"], part, trained["leave_out"], outside, ("image",), **labels)
    if data_known(trained) and not same_data(trained, dataset_dir):
        logger.warning("%s is another data set than %s was trained on.", dataset_dir, checkpoint)
    chosen = [entries[index] for index in np.unique(np.linspace(0, len(entries) - 1, SLICES).round().astype(int))]
    logger.info("%s: learning from %d of %d training slices of %s", checkpoint, len(chosen), len(entries), dataset_dir)
    familiarity = Familiarity.fit(network, _batches(chosen, trained, place))
    path = checkpoint.with_name(FAMILIARITY_FILE)
    if path.is_file():
        logger.warning("%s is replaced.", path)
    familiarity.save(path, file_sha256(checkpoint))
    return path


def _batches(
    entries: list[dict[str, Any]], trained: dict[str, Any], device: torch.device
) -> Iterator[tuple[torch.Tensor, list[str]]]:
    def preprocessing(augment: list[Any]) -> Compose:
        return slice_preprocessing(
            trained["image_size"],
            trained["in_channels"],
            trained["mean"],
            trained["std"],
            single_slices=True,
            augment=augment,
        )

    augmented = preprocessing(
        [
            RandGaussianNoised("image", prob=0.4, std=0.05, sample_std=True),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
            RandGaussianSmoothd("image", prob=0.2, sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0)),
            RandBiasFieldd("image", prob=0.2, coeff_range=(0.0, 0.2)),
            ScaleIntensityd("image"),
        ]
    ).set_random_state(0)
    for prepare in (preprocessing([]), augmented):
        for first in range(0, len(entries), BATCH):
            some = entries[first : first + BATCH]
            images = torch.stack([_prepared(prepare, entry["image"]) for entry in some])
            yield images.to(device), [str(entry.get("group", entry["patient"])) for entry in some]


def _prepared(prepare: Compose, path: str) -> torch.Tensor:
    try:
        return torch.as_tensor(prepare({"image": path})["image"]).float()
    except Exception as error:
        # MONAI wraps whatever a transform raises.
        if (reason := reason_of(error)) is None:
            raise
        raise ValueError(f"{path}: {reason}") from error


@one_line_errors
def run_familiarity(
    bundle: str | Path,
    checkpoint: Path | None,
    dataset_dir: Path,
    bundles: Path | None = None,
    device: str | None = None,
) -> int:
    """``python -m monai_kd familiarity``: see `fit_familiarity`.

    Args:
        bundle: name of the bundle, see `find_bundle`, or its folder.
        checkpoint: ``None`` for ``models/model.pt`` of the bundle.
        dataset_dir, device: see `fit_familiarity`.
        bundles: folder of the bundles.

    Returns:
        The exit code: 0, or 2 after an error on stderr.
    """
    folder = bundle_folder(bundle, bundles)
    checkpoint = checkpoint_or_own(checkpoint, folder, "familiarity BUNDLE CHECKPOINT DATASET")
    device = None if device is None else checked_device(device)
    print(printable(f"{fit_familiarity(folder, checkpoint, dataset_dir, device)}: of {network_name(checkpoint)}"))
    return 0
