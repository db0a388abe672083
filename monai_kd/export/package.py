"""Export of a bundle's network to a folder that makes predictions without torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import EnsureChannelFirstd, EnsureTyped, NormalizeIntensityd, RepeatChanneld

from data_prep.text import printable

from ..bundle.familiarity import familiarity_of
from ..bundle.folder import bundle_folder
from ..bundle.released import checkpoint_or_own
from ..bundle.trained import of_segmentation
from ..config.checks import is_number
from ..config.errors import one_line_errors
from ..extras import require_extra
from ..inference import BundlePredictor
from ..inference.examination import EXAMINATION
from ..inference.familiarity import Familiarity
from ..inference.input_kind import UNFAMILIAR
from ..inference.own_classes import OwnClasses
from ..io.atomic import atomic_folder, check_atomic_folder
from ..io.network_name import network_name
from ..io.trained import read_trained
from ..metrics import PresenceRule
from ..transforms import ResizeInPlaned, ScaleSliceIntensityd, UprightInPlaned
from . import predict as script
from .contents import checked_difference, origin_of, write_contents
from .int8 import MAX_DICE_LOSS, Reference, add_int8
from .network_file import open_network
from .onnx_file import write_onnx
from .slices import calibration_files
from .volume_package import export_volume_package

__all__ = ["export_package", "run_export"]

SCRIPTS = {name: name for name in ("predict.py", "network_file.py", "slice_files.py")}
# That bundle and package are compared on; it is not stored upright.
NOISE = np.random.default_rng(0).normal(size=(75, 60, 2)).astype(np.float32)
AFFINE = np.diag([0.9, 0.8, 5.0, 1.0])
# The transforms that predict.py implements, in this order.
KNOWN = [
    *(EnsureChannelFirstd, UprightInPlaned, ScaleSliceIntensityd, ResizeInPlaned),
    *(RepeatChanneld, NormalizeIntensityd, EnsureTyped),
]
KNOWN_SCORES = ("max", "top_k_mean")  # in predict.py
SCORE_TOLERANCE = 0.01  # a classifier's log-odds amplify the rounding of probabilities near 1


def export_package(
    bundle: str | Path,
    checkpoint: str | Path,
    output_dir: str | Path,
    int8: str | Path | None = None,
    max_dice_loss: float = MAX_DICE_LOSS,
) -> float:
    """Write the network of a bundle as ONNX, with the settings of its preprocessing and a script that runs it.

    The folder has ``model.onnx``, ``settings.json`` (size, normalisation, rules, classes, origin), ``predict.py`` with
    ``network_file.py`` and ``slice_files.py`` (which need numpy, and onnxruntime or OpenVINO), ``requirements.txt``,
    ``MODEL_CARD.md``, ``LICENSE`` and ``data_license.txt``; of weights with ``familiarity.safetensors``, by which
    images unlike the training slices are recognised, ``familiarity.npz``; and where the operating point was chosen
    together with a classifier, ``classifier.onnx``; the classes of the network itself are one more of its outputs. For
    a network of volumes see `export_volume_package`.
    It is written atomically, after its probabilities, its presence score and the distance of its features were compared
    with those of the bundle on a noise image.

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
            what the package gives differs from what the bundle gives, or int8 changes the masks too much.
    """
    require_extra("export", ["onnx", "onnxscript", "onnxruntime"], "export")
    of_volumes = _volumes_of(checkpoint) is not None
    if int8 is not None and of_volumes:
        raise ValueError("--int8 is for networks of slices, and these weights are of volumes: leave it out.")
    if not is_number(max_dice_loss, highest=1):
        raise ValueError(f"--max_dice_loss must be a number from 0 to 1, got {max_dice_loss}.")
    if int8 is not None:
        require_extra("openvino", ["nncf", "openvino"], "export --int8")
        calibration_files(int8)  # that there are any
    bundle, output_dir = Path(bundle).expanduser().resolve(), Path(output_dir).expanduser().resolve()
    check_atomic_folder(output_dir)
    if of_volumes:
        return export_volume_package(bundle, checkpoint, output_dir)
    predictor = BundlePredictor(bundle, checkpoint, device="cpu", amp=False)
    settings = _settings(predictor, bundle, checkpoint)
    with atomic_folder(output_dir) as folder:
        output = _noise(predictor)
        # A bundle of one's own may judge every image.
        familiarity = None if _distance(output) is None else familiarity_of(checkpoint, predictor.network)
        layers = () if familiarity is None else familiarity.layers
        shape = (3, settings["image_size"], settings["image_size"])
        reader = predictor.reader
        own = isinstance(reader, OwnClasses)
        write_onnx(predictor.network, shape, folder / "model.onnx", predictor.value("mirror"), layers, own)
        if isinstance(reader, OwnClasses):
            settings["own_classes"] = reader.class_names
        elif reader is not None:
            write_onnx(reader.log_odds(), shape, folder / "classifier.onnx")
            settings["classifier"] = {"sha256": reader.sha256, "class_names": reader.settings["class_names"]}
        reference = None if familiarity is None else _reference(familiarity)
        if reference is not None:
            settings["unfamiliar_from"] = UNFAMILIAR
            np.savez(folder / "familiarity.npz", **reference)
        if int8 is not None:
            found = add_int8(predictor, folder, settings, Path(int8), max_dice_loss, reference)
            settings |= {"precision": "int8", "int8": found}
        write_contents(folder, bundle, checkpoint, predictor.value("trained"), settings, SCRIPTS)
        return _check(output, folder, settings, reference)


@one_line_errors
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
    folder = bundle_folder(bundle, bundles)
    checkpoint = checkpoint_or_own(checkpoint, folder, "export BUNDLE CHECKPOINT FOLDER")
    difference = export_package(folder, checkpoint, output_dir, int8, max_dice_loss)
    print(printable(f"exported: {network_name(checkpoint)}"))
    print(f"{output_dir}: probabilities of model.onnx and of the bundle agree to {difference:.1g}. To use it:")
    requirements, program = (shlex.quote(f"{output_dir}/{name}") for name in ("requirements.txt", "predict.py"))
    image = "SLICE.nii.gz"
    if (volumes := _volumes_of(checkpoint)) is not None:
        names = volumes["modalities"]
        image = " ".join(f"P1_{name}.nii.gz" for name in names) if len(names) > 1 else "VOLUME.nii.gz"
    print(f"  pip install -r {requirements}\n  python {program} {image}")
    return 0


def _volumes_of(checkpoint: str | Path) -> dict[str, Any] | None:
    """How a network of volumes reads them; ``None`` of a network of slices."""
    return (read_trained(checkpoint) or {}).get("volumes")


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
    trained = predictor.value("trained")
    if trained["in_channels"] != 3:
        raise ValueError(
            f"{checkpoint} takes {trained['in_channels']} channels; predict.py repeats a grey slice in three: train "
            "with in_channels 3, or export it as in docs/export.md, as TorchScript."
        )
    of_classes = not of_segmentation(bundle)
    if of_classes:
        output = {"class_names": predictor.value("class_names"), "temperature": predictor.value("temperature")}
    else:
        names = ["background", *predictor.mask_names]
        labels = {str(index): name for index, name in enumerate(names)}
        output = {"activation": trained["activation"], "threshold": predictor.threshold, "labels": labels}
        rule = PresenceRule.of(trained["operating_point"], predictor.value("presence_threshold"))
        if rule.score not in KNOWN_SCORES:
            raise ValueError(
                f"predict.py knows the presence scores {', '.join(KNOWN_SCORES)}, and operating_point in the "
                f"settings.json of {checkpoint} has {rule.score}: choose an operating point with one of them."
            )
        output |= {"presence_score": rule.score, "presence_threshold": rule.threshold}
        output |= {name: predictor.value(name) for name in ("presence_context", "smallest_extent_mm")}
    return {
        "task": "classification" if of_classes else "segmentation",
        "image_size": trained["image_size"],
        "upright": upright,
        "mean": [float(value) for value in normalizer.subtrahend],
        "std": [float(value) for value in normalizer.divisor],
        **output,
        "mirrored": predictor.value("mirror"),
        "precision": "float32",
        "input": "image: float32 (1, 3, columns, rows), a slice scaled to 0 … 1, resized, repeated, (x - mean) / std",
        "output": "logits, averaged over mirror images along the axes of `mirrored`",
        **origin_of(bundle, checkpoint),
    }


def _check(output: dict[str, Any], folder: Path, settings: dict[str, Any], reference: Reference | None) -> float:
    """The largest difference between the probabilities of bundle and package, for `NOISE`.

    Raises:
        ValueError: it is larger than allowed, or the presence scores or the distances of the features differ.
    """
    names = ["model", *(["classifier"] if "classifier" in settings else [])]
    network, *reader = (open_network(folder, "float32", "onnxruntime", name) for name in names)
    found, distance, second = script.predict(NOISE, AFFINE[:3, :3], network, settings, reference, *reader)
    expected = np.asarray(output["pred"].T if settings["task"] == "classification" else output["probability"])
    expected = expected[0] if found.ndim < expected.ndim else expected
    difference = checked_difference(float(np.abs(expected.astype(float) - found).max()))
    score = output.get(EXAMINATION, {}).get("presence_score")
    if score is not None:
        _, judged = script.judge(np.zeros(NOISE.shape), found, NOISE.shape, AFFINE[:3, :3], settings, second)
        if not abs(judged["presence_score"] - score) <= SCORE_TOLERANCE:
            raise ValueError(
                f"the presence score of the exported networks is {judged['presence_score']}, that of the bundle "
                f"{score}: nothing was written."
            )
    own = _distance(output)
    if own is not None and not np.isclose(np.nan if distance is None else distance, own, rtol=0.01, atol=0.01):
        raise ValueError(
            f"the features of the exported network have the distance {distance}, those of the bundle {own}: nothing "
            "was written."
        )
    return difference


def _noise(predictor: BundlePredictor) -> dict[str, Any]:
    """The output of the bundle for `NOISE`."""
    meta = {"affine": AFFINE, "original_affine": AFFINE, "spatial_shape": np.asarray(NOISE.shape), "space": "RAS"}
    meta |= {"original_channel_dim": float("nan"), "spacing": AFFINE.diagonal()[:3]}
    return predictor(NOISE, meta)


def _distance(output: dict[str, Any]) -> float | None:
    return output.get(EXAMINATION, {}).get("feature_distance")


def _reference(familiarity: Familiarity) -> Reference:
    return {name: np.asarray(value) for name, value in vars(familiarity.reference).items()}
