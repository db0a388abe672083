"""Export of a network of volumes to a folder that makes predictions without torch."""

from __future__ import annotations

import inspect
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai.transforms
import nibabel as nib
import numpy as np
import torch
from monai.transforms import EnsureChannelFirstd, EnsureTyped, Orientationd

from ..engines import LogitsInferer
from ..inference import BundlePredictor
from ..io import read_volume
from ..io.atomic import atomic_folder
from ..networks.outputs import main_logits
from ..transforms import NormalizeByd
from ..transforms.resampling import ResampleVolumed
from . import predict_volumes as script
from .contents import TOLERANCE, checked_difference, origin_of, write_contents
from .int8 import Network
from .network_file import open_network
from .onnx_file import write_onnx

__all__ = ["export_volume_package"]

logger = logging.getLogger(__name__)

OVER = "volumes_inference.json"  # laid over inference.json, in which an archive of `pack_bundle` has it already
SCRIPTS = {name: name for name in ("network_file.py", "slice_files.py", "volume_values.py")}
SCRIPTS["predict_volumes.py"] = "predict.py"
# The transforms that predict.py implements, in this order; those of geometry if they are set.
KNOWN = (EnsureChannelFirstd, Orientationd, ResampleVolumed, NormalizeByd, EnsureTyped)
# Arguments of the normalisation that predict.py implements with these values alone.
ONLY = {
    **{"dtype": (np.float32,), "safe": (False, True), "return_clipping_values": (False, True)},
    **{"relative": (False,), "sharpness_factor": (None,)},
}
# Directions of the axes of the noise that both are compared on, oblique and in another order than any orientation.
TURNED = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]) @ np.array(
    [[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]]
)


def export_volume_package(bundle: Path, checkpoint: str | Path, output_dir: Path) -> float:
    """`export_package` for a network of volumes, which its ``predict.py`` moves over each volume in windows.

    A warning is logged where windows without any contrast, as of air, have other probabilities in both: instance
    normalisation divides by a standard deviation that is only rounding there.

    The network in ``model.onnx`` takes one window. Before the folder appears, its probabilities are compared with those
    of the bundle on a volume of noise, oblique and with other voxels than the network's, which has to be turned,
    resampled and normalised.

    Args:
        bundle, checkpoint: as for `export_package`.
        output_dir: a new or empty folder.

    Returns:
        The largest difference between two probabilities.

    Raises:
        ValueError: ``predict.py`` does not implement the preprocessing of the config, or as `export_package`.
    """
    over = [OVER] if (bundle / "configs" / OVER).is_file() else []
    predictor = BundlePredictor(bundle, checkpoint, over, device="cpu", amp=False)
    settings = {**_settings(predictor), **origin_of(bundle, checkpoint)}
    shape = [len(settings["channels"]), *settings["image_size"]]
    with atomic_folder(output_dir) as folder:
        write_onnx(predictor.network, shape, folder / "model.onnx", predictor.value("mirror"))
        write_contents(folder, bundle, checkpoint, predictor.value("trained"), settings, SCRIPTS)
        exported = open_network(folder, runtime="onnxruntime")
        found = checked_difference(_difference(predictor, exported, settings))
        if (empty := _difference_without_contrast(predictor, exported, shape)) > TOLERANCE:
            logger.warning(
                "in windows without any contrast, such as air, bundle and package differ by %.2g in probability, and "
                "so may any two computers: the network amplifies rounding there, as instance normalisation does. Masks "
                "of such places mean nothing; train with --norm batch, or another network, where they matter.",
                empty,
            )
        return found


def _settings(predictor: BundlePredictor) -> dict[str, Any]:
    trained, volumes = predictor.value("trained"), predictor.value("volumes")
    if trained["spatial_dims"] != 3:
        raise ValueError("the network is of slices in patches, and export is for volumes and for whole slices.")
    prepared = predictor.value("preprocessing").transforms[1:]
    kinds = [type(each) for each in prepared]
    if kinds != [kind for kind in KNOWN if kind in kinds or kind not in (Orientationd, ResampleVolumed)]:
        raise ValueError(
            f"preprocessing of {predictor.bundle.name} is {', '.join(kind.__name__ for kind in kinds)}; predict.py "
            f"implements {', '.join(kind.__name__ for kind in KNOWN)} in this order only, and would give other results."
        )
    windows = predictor.value("inferer").inferer if isinstance(predictor.value("inferer"), LogitsInferer) else None
    if getattr(windows, "mode", None) != "gaussian" or trained["operating_point"] is not None:
        raise ValueError(
            f"inference.json of {predictor.bundle.name} has another inferer than a SlidingWindowInferer of mode "
            "gaussian, or its weights an operating point, which predict.py does not implement for volumes."
        )
    names = ["background", *predictor.mask_names] if predictor.value("multiclass") else predictor.mask_names
    numbered = {str(number): name for number, name in enumerate(names, not predictor.value("multiclass"))}
    return {
        "task": "segmentation of volumes",
        "channels": list(volumes["modalities"]),
        "image_size": list(trained["image_size"]),
        "overlap": predictor.value("overlap"),
        "orientation": volumes["orientation"],
        "spacing": volumes["spacing"],
        "normalization": [_explicit(step) for step in volumes["normalization"]],
        "activation": trained["activation"],
        "threshold": predictor.threshold,
        "labels": {number: name for number, name in numbered.items() if number != "0"},
        "smallest_extent_mm": predictor.value("smallest_extent_mm"),
        "mirrored": predictor.value("mirror"),
        "precision": "float32",
        "input": "image: float32 (1, channels, X, Y, Z), a window of a volume that is oriented, resampled, normalised",
        "output": "logits, averaged over mirror images along the axes of `mirrored`",
    }


def _explicit(step: Mapping[str, Any]) -> dict[str, Any]:
    """A transform of the normalisation with all its arguments, so that predict.py needs no defaults of MONAI."""
    name = step["_target_"]
    given = {key: value for key, value in step.items() if key != "_target_"}
    bound = inspect.signature(getattr(monai.transforms, name)).bind(**given)
    bound.apply_defaults()
    for key, value in bound.arguments.items():
        if value not in ONLY.get(key, (value,)):
            raise ValueError(f"normalization: predict.py does not implement {name} with {key} {value!r}.")
    return {"_target_": name, **{key: value for key, value in bound.arguments.items() if key not in ONLY}}


def _difference(predictor: BundlePredictor, exported: Network, settings: Mapping[str, Any]) -> float:
    """The largest difference between the probabilities of bundle and package, for a file of noise."""
    with tempfile.TemporaryDirectory(prefix="monai_kd-export-") as temporary:
        path = _noise(Path(temporary) / "noise.nii", settings["channels"], settings["image_size"], settings["spacing"])
        expected = predictor(*read_volume(path, len(settings["channels"])))["probability"]
        image, affine, _ = script.read_image({"": path}, settings["channels"])
        found = script.predict(image, affine, exported, settings)
    return float(np.abs(np.asarray(expected, dtype=float) - found).max())


def _difference_without_contrast(predictor: BundlePredictor, exported: Network, shape: Sequence[int]) -> float:
    """The largest difference between the sigmoids of bundle and package, for a window of zeros."""
    window = np.zeros((1, *shape), np.float32)
    with torch.inference_mode():
        own = main_logits(predictor.network(torch.as_tensor(window)), predictor.network, window.ndim).numpy()
    found = exported(window)[0]
    return float(np.abs(1 / (1 + np.exp(-own)) - 1 / (1 + np.exp(-found))).max())


def _noise(path: Path, channels: Sequence[str], size: Sequence[int], spacing: Sequence[float] | None) -> Path:
    """Two windows along one axis of the network, and less than one along another, of voxels of other sides."""
    voxels = np.array([0.8, 1.25, 1.1]) * (spacing or [1.0, 1.0, 2.0])
    sides = np.array([size[0] + max(2, size[0] // 4), max(size[1] - 3, 4), size[2]])
    shape = ((sides - 1) * np.array(spacing or voxels) / voxels).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = TURNED * voxels
    # Values like those of CT, with zeros, which some transforms leave out.
    image = np.random.default_rng(0).normal(50, 150, (*shape, len(channels))).astype(np.int16)
    image[: shape[0] // 4] = 0
    nib.save(nib.Nifti1Image(image if len(channels) > 1 else image[..., 0], affine), path)
    return path
