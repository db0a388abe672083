"""Export of a bundle's network to a folder that makes predictions without torch."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from monai.transforms import EnsureChannelFirstd, EnsureTyped, NormalizeIntensityd, RepeatChanneld

from data_prep.text import printable

from ..bundle.checkpoint import describe_checkpoint
from ..bundle.folder import bundle_folder
from ..bundle.released import checkpoint_or_own
from ..extras import require_extra
from ..inference import BundlePredictor
from ..io.atomic import atomic_folder, check_new_folder
from ..io.network_name import network_name
from ..metrics import PresenceRule
from ..transforms import ResizeInPlaned, ScaleSliceIntensityd, UprightInPlaned
from .int8 import agreement, largest_loss, quantise
from .onnx_file import write_onnx
from .slices import network_inputs

__all__ = ["export_package", "run_export"]

logger = logging.getLogger(__name__)

PREDICT = Path(__file__).with_name("predict.py")
# The transforms that predict.py implements, in this order.
KNOWN = [
    *(EnsureChannelFirstd, UprightInPlaned, ScaleSliceIntensityd, ResizeInPlaned),
    *(RepeatChanneld, NormalizeIntensityd, EnsureTyped),
]
KNOWN_SCORES = ("max", "top_k_mean")  # in predict.py
TOLERANCE = 1e-3
CALIBRATION_SLICES = 300  # as many again check the result
MAX_DICE_LOSS = 0.005


def export_package(
    bundle: str | Path,
    checkpoint: str | Path,
    output_dir: str | Path,
    int8: str | Path | None = None,
    max_dice_loss: float = MAX_DICE_LOSS,
) -> float:
    """Write the network of a bundle as ONNX, with the settings of its preprocessing and a script that runs it.

    The folder has ``model.onnx``, ``settings.json`` (size, normalisation, rules, classes, origin), ``predict.py``
    (needs numpy, and onnxruntime or OpenVINO), ``requirements.txt``, ``MODEL_CARD.md``, ``LICENSE`` and
    ``data_license.txt``.
    It is written atomically, after its probabilities were compared with those of the bundle on a noise image.

    Args:
        bundle: folder of a bundle, with ``configs/``, such as that of seg_student or cls_student.
        checkpoint: weights of its network.
        output_dir: a new or empty folder.
        int8: slices that the network was trained on, or others like them: a file or folder, as for inference. The
            folder then has ``model_int8.onnx`` too, see `quantise`, which ``predict.py`` uses by default. Half of
            the slices calibrate it; on the other half, its results are compared with those in float32.
        max_dice_loss: what the `agreement` of each class may lack of 1.

    Returns:
        The largest difference between two probabilities.

    Raises:
        FileExistsError: ``output_dir`` is not empty.
        ImportError: onnx, onnxscript or onnxruntime, or for ``int8`` nncf, is not installed.
        ValueError: ``predict.py`` does not implement the preprocessing of the config, the checkpoint does not fit,
            the probabilities of the package differ from those of the bundle, or int8 changes the masks too much.
    """
    require_extra("export", ["onnx", "onnxscript", "onnxruntime"], "export")
    if int8 is not None:
        require_extra("openvino", ["nncf", "openvino"], "export --int8")
    bundle, output_dir = Path(bundle).expanduser().resolve(), Path(output_dir).expanduser().resolve()
    check_new_folder(output_dir)
    predictor = BundlePredictor(bundle, checkpoint, device="cpu", amp=False)
    settings = _settings(predictor, bundle, checkpoint)
    with atomic_folder(output_dir) as folder:
        write_onnx(predictor.network, settings["image_size"], folder / "model.onnx", predictor.value("mirror"))
        if int8 is not None:
            settings |= {"precision": "int8", "int8": _add_int8(predictor, folder, settings, Path(int8), max_dice_loss)}
        (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        runtime = "onnxruntime" if int8 is None else "openvino"
        (folder / "requirements.txt").write_text(f"numpy\n{runtime}\n", encoding="utf-8")
        for source, name in (
            (PREDICT, "predict.py"),
            (bundle / "docs" / "README.md", "MODEL_CARD.md"),
            (bundle / "docs" / "data_license.txt", "data_license.txt"),
            (bundle / "LICENSE", "LICENSE"),
        ):
            shutil.copyfile(source, folder / name)
        difference = _difference(predictor, folder, settings)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the probabilities of the exported network differ by {difference:.2g} from those of the bundle, more "
                f"than {TOLERANCE:g}: nothing was written."
            )
    return difference


def run_export(
    bundle: str | Path,
    checkpoint: Path | None,
    output_dir: Path,
    bundles: Path | None = None,
    int8: Path | None = None,
    max_dice_loss: float = MAX_DICE_LOSS,
) -> int:
    """``python -m monai_kd export``: write a package with `export_package`.

    Args:
        bundle: name of the bundle, see `find_bundle`, or its folder.
        checkpoint: see `export_package`; ``None`` for ``models/model.pt`` of the bundle.
        output_dir, int8, max_dice_loss: see `export_package`.
        bundles: folder of the bundles.

    Returns:
        The exit code: 0, or 2 after an error on stderr.
    """
    try:
        folder = bundle_folder(bundle, bundles)
        checkpoint = checkpoint_or_own(checkpoint, folder, "export BUNDLE CHECKPOINT FOLDER")
        difference = export_package(folder, checkpoint, output_dir, int8, max_dice_loss)
        print(printable(f"exported: {network_name(checkpoint)}"))
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{output_dir}: probabilities of model.onnx and of the bundle agree to {difference:.1g}. To use it:")
    print(f"  pip install -r {output_dir}/requirements.txt\n  python {output_dir}/predict.py SLICE.nii.gz")
    return 0


def _add_int8(
    predictor: BundlePredictor, folder: Path, settings: dict[str, Any], slices: Path, max_dice_loss: float
) -> dict[str, Any]:
    """Write ``model_int8.onnx``, compare it with ``model.onnx``, and return what is known of it."""
    inputs = network_inputs(predictor, slices, 2 * CALIBRATION_SLICES)
    # Neighbours are often of one patient: every other slice would not check anything new.
    calibration, check = inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]
    if not calibration:
        raise ValueError(f"int8 needs two slices or more, and {slices} holds one.")
    quantise(folder / "model.onnx", folder / "model_int8.onnx", calibration)
    script = _script()
    found = agreement(
        script.open_network(folder, "float32"), script.open_network(folder, "int8", "openvino"), check, settings
    )
    name, loss = largest_loss(found)
    logger.info("int8 and float32 agree on %d slices: %s", len(check), found)
    if loss > max_dice_loss:
        raise ValueError(
            f"with int8, {name} loses {loss:.4f} of the agreement with float32 on {len(check)} slices, more than "
            f"{max_dice_loss:g}: nothing was written. Give more slices, such as all that it was trained on, or allow "
            "it with --max_dice_loss."
        )
    return {"agreement_with_float32": found, "calibration_slices": len(calibration), "checked_slices": len(check)}


def _settings(predictor: BundlePredictor, bundle: Path, checkpoint: str | Path) -> dict[str, Any]:
    # Without the first one, which loads the file; predict.py has its own loader.
    prepared = predictor.value("preprocessing").transforms[1:]
    kinds = [type(each) for each in prepared]
    upright = UprightInPlaned in kinds
    if kinds != [kind for kind in KNOWN if upright or kind is not UprightInPlaned]:
        raise ValueError(
            f"preprocessing of {bundle.name} is {', '.join(kind.__name__ for kind in kinds)}; predict.py implements "
            f"{', '.join(kind.__name__ for kind in KNOWN)} in this order only, and would give other results."
        )
    normalizer = prepared[kinds.index(NormalizeIntensityd)].normalizer
    facts, trained = describe_checkpoint(checkpoint), predictor.value("trained")
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    classifies = metadata["network_data_format"]["outputs"]["pred"]["format"] != "segmentation"
    if classifies:
        output = {"class_names": predictor.value("class_names"), "temperature": predictor.value("temperature")}
    else:
        names = ["background", *predictor.mask_names]
        labels = {str(index): name for index, name in enumerate(names)}
        output = {"activation": trained["activation"], "threshold": predictor.threshold, "labels": labels}
        rule = PresenceRule.of(trained["operating_point"])
        if rule.score not in KNOWN_SCORES:
            raise ValueError(
                f"predict.py knows the presence scores {', '.join(KNOWN_SCORES)}, and operating_point in the "
                f"settings.json of {checkpoint} has {rule.score}: choose an operating point with one of them."
            )
        output |= {"presence_score": rule.score, "presence_threshold": rule.threshold}
        output |= {name: predictor.value(name) for name in ("presence_context", "smallest_extent_mm")}
    return {
        "task": "classification" if classifies else "segmentation",
        "image_size": trained["image_size"],
        "upright": upright,
        "mean": [float(value) for value in normalizer.subtrahend],
        "std": [float(value) for value in normalizer.divisor],
        **output,
        "mirrored": predictor.value("mirror"),
        "precision": "float32",
        "input": "image: float32 (1, 3, columns, rows), a slice scaled to 0 … 1, resized, repeated, (x - mean) / std",
        "output": "logits, averaged over mirror images along the axes of `mirrored`",
        "bundle": {"name": bundle.name, "version": metadata["version"]},
        "checkpoint": {"file": facts.file, "sha256": facts.sha256, "trained_on_synthetic_slices": facts.synthetic},
        "intended_use": metadata["intended_use"],
    }


def _difference(predictor: BundlePredictor, folder: Path, settings: dict[str, Any]) -> float:
    """The largest difference between the probabilities of bundle and package, on noise that is not stored upright."""
    image = np.random.default_rng(0).normal(size=(75, 60, 2)).astype(np.float32)
    affine = np.diag([0.9, 0.8, 5.0, 1.0])
    meta = {"affine": affine, "original_affine": affine, "spatial_shape": np.asarray(image.shape), "space": "RAS"}
    meta |= {"original_channel_dim": float("nan"), "spacing": np.asarray([0.9, 0.8, 5.0])}
    output = predictor(image, meta)
    script = _script()
    found = script.predict(image, affine[:3, :3], script.open_network(folder, runtime="onnxruntime"), settings)
    expected = np.asarray(output["pred"].T if settings["task"] == "classification" else output["probability"])
    expected = expected[0] if found.ndim < expected.ndim else expected
    return float(np.abs(expected.astype(float) - found).max())


def _script() -> ModuleType:
    loader = SourceFileLoader("predict", str(PREDICT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    if spec is None:
        raise ImportError(f"{PREDICT} can't be loaded.")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
