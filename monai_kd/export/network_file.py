"""Run an exported network with onnxruntime or OpenVINO, and clean its masks. Part of predict.py."""

import argparse
import functools
import importlib.util
import warnings

import numpy as np

EXPECTED_DICE = "expected_dice"  # in place of a threshold


@functools.cache
def openvino_core():
    """OpenVINO, once for this process. Each core gives the thread a signal stack, and when it is freed restores the one
    before, which may be of a core that is freed already: then the next signal, as of a child that ends, is fatal."""
    import openvino

    return openvino.Core()


def openvino_network(model, precision, **hints):
    """A network compiled for the CPU. What int8 leaves in float runs as the processor can, or else, with a warning, in
    float32: OpenVINO 2026.4 has no bfloat16 for it on processors with AMX."""
    compiled = functools.partial(openvino_core().compile_model, model, "CPU")
    exact = {**hints, "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
    if not model.name.endswith("_int8.onnx"):
        return compiled(exact)
    try:
        return compiled(hints)
    except RuntimeError:
        warnings.warn("OpenVINO fails with what int8 leaves in float: it runs in float32, slower", stacklevel=3)
        return compiled(exact)


def open_network(folder, precision="float32", runtime=None, name="model"):
    """A function from (1, 3, columns, rows) to logits, and features where the network gives them, on the CPU; of
    several runtimes the one for the precision."""
    model = folder / (f"{name}_int8.onnx" if precision == "int8" and name == "model" else f"{name}.onnx")
    if not model.is_file():
        made = " made with --int8" if precision == "int8" else ""
        raise ValueError(f"there is no {model.name} here: it belongs to a package{made}")
    order = ["onnxruntime", "openvino"] if precision == "float32" else ["openvino", "onnxruntime"]
    runtime = runtime or next((name for name in order if importlib.util.find_spec(name)), None)
    if runtime is None or not importlib.util.find_spec(runtime):
        raise ValueError(f"{runtime or 'a runtime'} is not installed: pip install onnxruntime, or openvino")
    if runtime == "openvino":
        compiled = openvino_network(model, precision)
        return lambda image: compiled(image).to_tuple()
    if precision == "bfloat16":
        raise ValueError("onnxruntime has no bfloat16 on a CPU: pip install openvino")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})


def softmax(logits, temperature=1.0):
    odds = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return odds / odds.sum(axis=1, keepdims=True)


def number_or_rule(text):
    """A threshold of the command line: a number, or the name of a rule."""
    try:
        return text if text == EXPECTED_DICE else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"it must be a number, or {EXPECTED_DICE}, got '{text}'") from None


def marked(found, threshold):
    """Where probabilities reach a threshold; for "expected_dice", the mask of the highest expected Dice: of n pixels
    sorted by probability p, the first k, where 2 (p1 + … + pk) / (k + p1 + … + pn) is largest; or none, where that is
    less than the probability that there is nothing, (1 - p1) … (1 - pn)."""
    if threshold != EXPECTED_DICE:
        return found >= threshold
    size = found.sum(dtype=float)
    if not size > 0:
        return np.zeros(found.shape, bool)
    # A pixel raises the ratio only above half of it, and masks of any threshold bound it from below.
    tried = [found[found >= each] for each in (0.5, 0.1, 0.01)]
    least = max(each.sum(dtype=float) / (len(each) + size) for each in tried)
    likely = np.sort(found[found >= least])[::-1]
    expected = 2 * likely.cumsum(dtype=float) / (np.arange(1, len(likely) + 1) + size)
    if np.exp(-size) > expected.max() and np.exp(np.log1p(-found.astype(float)).sum()) > expected.max():
        return np.zeros(found.shape, bool)
    return found >= likely[expected.argmax()]


def slice_step(affine):
    """From slice to slice along their normal, in mm."""
    return abs(np.linalg.det(affine)) / np.linalg.norm(np.cross(affine[:, 0], affine[:, 1]))


def without_thin(mask, shape, affine, smallest_extent_mm):
    """A mask, or several, of a volume without the marks that reach over too few slices; and how many these were."""
    thin = thin_marks(mask.reshape(-1, *shape).any(axis=0), smallest_extent_mm / slice_step(affine) - 1e-3)
    return mask * (thin == 0), len(np.unique(thin[thin > 0]))


def thin_marks(mask, fewest):
    """Numbers of the connected areas (corners included) on fewer slices than that, 0 elsewhere."""
    thin = np.zeros(mask.shape, int)
    if not mask.any():
        return thin
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in np.nonzero(mask))
    part = mask[box]
    own, changed = np.where(part, np.arange(part.size).reshape(part.shape) + 1, 0), True
    while changed:
        highest = own
        for axis in range(3):
            padded = np.pad(highest, [(int(axis == other),) * 2 for other in range(3)])
            highest = np.maximum.reduce([padded.take(range(i, i + own.shape[axis]), axis) for i in range(3)])
        higher, parents = part & (highest > own), np.arange(part.size + 1)
        changed = higher.any()
        # An area that touches one of a higher number takes that number, and what became of it.
        np.maximum.at(parents, own[higher], highest[higher])
        while (parents[parents] != parents).any():
            parents = parents[parents]
        own = parents[own]
    each, slices = np.unique(np.concatenate([np.unique(own[..., z]) for z in range(own.shape[2])]), return_counts=True)
    thin[box] = np.where(np.isin(own, each[slices < fewest]), own, 0)
    return thin
