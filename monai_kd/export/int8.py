"""Weights and activations of an exported network as 8-bit integers, and what that costs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import require_extra
from ..inference import BundlePredictor
from ..inference.input_kind import UNFAMILIAR
from ..io.trained import FAMILIARITY_FILE
from . import predict as script
from .network_file import marked, open_network
from .slices import network_inputs

__all__ = ["MAX_DICE_LOSS", "add_int8", "agreement", "largest_loss", "quantise"]

Network = Callable[[np.ndarray], Sequence[np.ndarray]]
Reference = dict[str, Any]  # values of a FeatureReference

CALIBRATION_SLICES = 300  # as NNCF recommends; as many again check the result
MAX_DICE_LOSS = 0.005
MOST_JUDGED_OTHERWISE = 0.01  # of the slices that check int8
JUDGEMENTS = {
    "unlike": (
        "recognised as unlike the training slices",
        f"export without {FAMILIARITY_FILE}: then every image is judged",
    ),
    "tumour": (
        "said to show a tumour by the classes of the network itself",
        "choose an operating point with --classifier none, see docs/examinations.md",
    ),
}

logger = logging.getLogger(__name__)


def add_int8(
    predictor: BundlePredictor,
    folder: Path,
    settings: dict[str, Any],
    slices: Path,
    max_dice_loss: float,
    reference: Reference | None,
) -> dict[str, Any]:
    """Write ``model_int8.onnx`` into a package, compare it with ``model.onnx``, and return what is known of it.

    Args:
        predictor: of the bundle, whose preprocessing it has.
        folder: of the package, with ``model.onnx``.
        settings: of the package, see `agreement`.
        slices: a file or folder of slices; half of them calibrate the network, the others check it.
        max_dice_loss: what the agreement of each class may lack of 1.
        reference: by which images unlike the training slices are recognised.

    Raises:
        ValueError: there are too few slices, or int8 changes the masks, or what is recognised, too much.
    """
    inputs = network_inputs(predictor, slices, 2 * CALIBRATION_SLICES)
    # Neighbours are often of one patient: every other slice would not check anything new.
    calibration, check = inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]
    if not calibration:
        raise ValueError(f"--int8 needs two slices or more, and {slices} holds one.")
    if len(calibration) < CALIBRATION_SLICES:
        logger.warning(
            "--int8: of %s, %d slices calibrate the network (NNCF recommends %d), and the agreement with float32 is "
            "measured on %d: it says little about other slices. Give %d slices or more.",
            *(slices, len(calibration), CALIBRATION_SLICES, len(check), 2 * CALIBRATION_SLICES),
        )
    quantise(folder / "model.onnx", folder / "model_int8.onnx", calibration)
    exact, judged_exact = _watched(open_network(folder, "float32"), settings, reference)
    integers, judged_integers = _watched(open_network(folder, "int8", "openvino"), settings, reference)
    found = agreement(exact, integers, check, settings)
    name, loss = largest_loss(found)
    logger.info("int8 and float32 agree on %d slices: %s", len(check), found)
    if loss > max_dice_loss:
        raise ValueError(
            f"with int8, {name} loses {loss:.4f} of the agreement with float32 on {len(check)} slices, more than "
            f"{max_dice_loss:g}: nothing was written. Give more slices, such as all that it was trained on, or allow "
            "it with --max_dice_loss."
        )
    for name, (what, remedy) in JUDGEMENTS.items():
        differ = sum(one[name] != other[name] for one, other in zip(judged_exact, judged_integers, strict=True))
        if differ > MOST_JUDGED_OTHERWISE * len(check):
            raise ValueError(
                f"with int8, {differ} of {len(check)} slices are no longer, or newly, {what}: nothing was written. "
                f"Give more slices, or {remedy}."
            )
    return {"agreement_with_float32": found, "calibration_slices": len(calibration), "checked_slices": len(check)}


def _watched(
    network: Network, settings: Mapping[str, Any], reference: Reference | None
) -> tuple[Network, list[dict[str, bool]]]:
    """The network, and the `JUDGEMENTS` of each slice that went through it."""
    judged: list[dict[str, bool]] = []

    def watched(image: np.ndarray) -> Sequence[np.ndarray]:
        outputs = network(image)
        unlike = reference is not None and script.feature_distance(outputs[1], reference) >= UNFAMILIAR
        tumour = "own_classes" in settings and outputs[-1].item() > 0
        judged.append({"unlike": bool(unlike), "tumour": bool(tumour)})
        return outputs

    return watched, judged


def quantise(model: Path, target: Path, inputs: Sequence[np.ndarray]) -> None:
    """Quantise an ONNX network after training, by NNCF, and write it as ONNX, which OpenVINO and onnxruntime run.

    Ranges of the activations are those of ``inputs``; biases are corrected layer by layer, see Nagel et al. 2019,
    https://arxiv.org/abs/1906.04721.

    Args:
        model: the network, with an input ``image``.
        target: the file to write.
        inputs: (1, C, H, W) each.

    Raises:
        ImportError: nncf is not installed.
    """
    require_extra("openvino", ["nncf"], "int8")
    # NNCF reports its use over the internet unless this is set when it is imported.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf
    import onnx

    logging.getLogger("nncf").setLevel(logging.ERROR)
    whole = onnx.load(str(model))
    aside = _take_features(whole)
    quantised = nncf.quantize(
        whole,
        nncf.Dataset(list(inputs), lambda image: {"image": image}),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
        fast_bias_correction=False,
        # Weights of half the range: on x86 processors without VNNI, sums of two products would saturate at 16 bits, and
        # the same package would judge other slices there.
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    )
    quantised.graph.node.extend(aside.node)
    quantised.graph.output.extend(aside.output)
    present = {each.name for each in quantised.graph.initializer}
    quantised.graph.initializer.extend(each for each in aside.initializer if each.name not in present)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, str(target))


def _take_features(model: Any) -> Any:
    """Remove what leads to the output ``features`` alone from an ONNX model, and return it as a graph.

    NNCF's correction of biases runs parts of the network, and fails on one with two outputs.
    """
    import onnx

    graph, aside = model.graph, onnx.GraphProto()
    makers = {name: node for node in graph.node for name in node.output}
    needed, left = set[str](), ["logits"]
    while left:
        if (name := left.pop()) not in needed:
            needed.add(name)
            left += makers[name].input if name in makers else []
    aside.node.extend(node for node in graph.node if not needed & set(node.output))
    aside.output.extend(each for each in graph.output if each.name not in needed)
    used = {name for node in aside.node for name in node.input}
    aside.initializer.extend(each for each in graph.initializer if each.name in used)
    for node in aside.node:
        graph.node.remove(node)
    for output in aside.output:
        graph.output.remove(output)
    return aside


def agreement(
    network: Network, other: Network, inputs: Sequence[np.ndarray], settings: Mapping[str, Any]
) -> dict[str, float | None]:
    """How far the results of two forms of a network agree, for each class.

    Args:
        network, other: from (1, C, H, W) to outputs, of which the first one is the logits.
        inputs: of the networks.
        settings: of the package: ``task``, and ``activation``, ``threshold`` and ``labels`` or ``class_names``.

    Returns:
        Of a segmentation, the Dice of the two masks, at the size of the network, over the pixels of all slices. Of a
        classification, the share of slices that both give the class, of those that either does. ``None`` for a class
        that neither found.
    """
    names = list(settings["class_names"] if "class_names" in settings else list(settings["labels"].values())[1:])
    sums = np.zeros((3, len(names)))
    for image in inputs:
        first, second = (_found(each(image)[0][0], settings) for each in (network, other))
        sums += [(part.reshape(len(names), -1)).sum(axis=1) for part in (first & second, first, second)]
    both, one, two = sums
    either = one + two if settings["task"] == "segmentation" else 2 * (one + two - both)
    return {name: round(float(2 * b / e), 5) if e > 0 else None for name, b, e in zip(names, both, either, strict=True)}


def _found(logits: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """(C, …) boolean: where, or whether, each class is found."""
    if settings["task"] == "classification":
        return np.arange(len(logits)) == logits.argmax()
    if settings["activation"] == "softmax":
        return logits.argmax(axis=0) == np.arange(1, len(logits))[:, None, None]
    found = 1 / (1 + np.exp(-logits.astype(float)))
    return np.stack([marked(each, settings["threshold"]) for each in found])


def largest_loss(found: Mapping[str, float | None]) -> tuple[str, float]:
    """The class that agrees least, and what it lacks; 1 where no class was found at all.

    Example:
        >>> largest_loss({"glioma": 0.998, "oedema": None})
        ('glioma', 0.002)
    """
    known = {name: 1 - value for name, value in found.items() if value is not None}
    if not known:
        return "no class", 1.0
    name = max(known, key=known.__getitem__)
    return name, round(known[name], 5)
