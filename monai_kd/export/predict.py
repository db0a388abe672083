"""Segment or classify head slices, with numpy and onnxruntime or OpenVINO. Research only: this is no medical device.

A SLICE is NIfTI (a slice or a volume), an upright .npy array (rows, columns), or, if Pillow is installed, PNG or JPEG.
"""

import argparse
import gzip
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
NIFTI_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
MAX_PIXELS = 2**27  # 512 slices of 512 × 512
EXTENSIONS = 2**24  # bytes between header and pixels
PICTURE_AFFINE = np.diag([-1.0, -1.0, 1.0])  # columns run to the patient's left, rows to the back or to the feet


def check_size(shape):
    if np.prod(shape, dtype=float) > MAX_PIXELS:
        raise ValueError(f"it has the size {shape}, more than {MAX_PIXELS} pixels")


def read_nifti(path):
    """The image, (X, Y) or (X, Y, Z); the 3 × 3 part of its affine, indices to RAS+; and a header for `write_nifti`."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        raw = file.read(352)
        order = "<" if raw[:4] == (348).to_bytes(4, "little") else ">"
        if len(raw) < 352 or raw[344:347] != b"n+1":
            raise ValueError("it is not a single-file NIfTI-1 file")

        def get(kind, start, count=1):
            return np.frombuffer(raw, order + kind, count, start)

        dimensions, kind = get("i2", 40, 8), int(get("i2", 70)[0])
        shape = tuple(int(n) for n in dimensions[1 : 1 + dimensions[0]])
        if len(shape) not in (2, 3) or min(shape) < 1 or kind not in NIFTI_TYPES:
            raise ValueError(f"it has axes {shape} and data type {kind}; a slice or a volume of numbers is expected")
        check_size(shape)
        offset = max(float(get("f4", 108)[0]), 352)  # nifti1.h: less than 352 is equivalent to 352
        if not offset <= 352 + EXTENSIONS:
            raise ValueError(f"its pixels begin at byte {offset:g}")
        file.seek(int(offset))
        number = np.dtype(order + NIFTI_TYPES[kind])
        image = np.frombuffer(file.read(int(np.prod(shape)) * number.itemsize), number).reshape(shape, order="F")
        # Read to the end, where gzip checks its checksum.
        if all(file.read(2**20) for _ in range(2**10)):
            raise ValueError("it has far more data than its pixels")
    slope, intercept = get("f4", 112, 2).astype(float)
    image = image * slope + intercept if np.isfinite(slope) and slope != 0 else image
    size = get("f4", 76, 4).astype(float)
    if get("i2", 254)[0] > 0:
        affine = get("f4", 280, 12).astype(float).reshape(3, 4)[:, :3]
    elif get("i2", 252)[0] > 0:
        v, unit = get("f4", 256, 3).astype(float), np.eye(3)
        a = np.sqrt(max(0.0, 1 - v @ v))
        rotation = (2 * a * a - 1) * unit + 2 * np.outer(v, v) + 2 * a * np.cross(v, unit).T
        affine = rotation * size[1:] * [1, 1, -1 if size[0] < 0 else 1]
    else:
        affine = np.diag([-1.0, 1.0, 1.0])
    # The slices are along the last axis, except for a single slice that was cropped along another axis.
    axis = shape.index(1) if shape[2:] > (1,) and 1 in shape[:2] and max(shape[:2]) > 1 else len(shape) - 1
    affine = affine[:, [*sorted({0, 1, 2} - {axis}), axis]] if axis < 2 and len(shape) == 3 else affine
    return np.moveaxis(image, axis, -1), affine, (raw, order, axis)


def write_nifti(path, mask, header, overlapping=False):
    """Write a mask in the geometry of the file of ``header``; overlapping masks are along a fourth axis."""
    original, order, axis = header
    raw = bytearray(original)
    if overlapping:
        mask = np.stack([np.moveaxis(each, -1, axis) for each in mask], axis=-1)
        mask = mask.reshape(*mask.shape[:2], -1, mask.shape[-1])
        raw[40:56] = np.array([4, *mask.shape, 1, 1, 1], order + "i2").tobytes()
    else:
        mask = np.moveaxis(mask, -1, axis)
    for start, kind, values in ((70, "i2", [2, 8]), (108, "f4", [352, 1, 0]), (124, "f4", [1, 0])):
        raw[start : start + len(values) * int(kind[1])] = np.array(values, order + kind).tobytes()
    raw[348:352] = bytes(4)  # no extensions
    path.write_bytes(gzip.compress(bytes(raw) + mask.tobytes(order="F"), mtime=0))


def read(path):
    if not path.is_file():
        raise ValueError("it does not exist, or is not a regular file")
    if path.name.endswith((".nii", ".nii.gz")):
        return read_nifti(path)
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        check_size(array.shape)
        return np.array(array).T, PICTURE_AFFINE, None
    from PIL import Image, ImageOps

    opened = Image.open(path, formats=("PNG", "JPEG"))
    check_size(opened.size)
    if ";16" in str(opened.tile) and not opened.mode.startswith("I"):
        raise ValueError("it is a PNG with 16-bit colours or transparency: save it as 16-bit grey")
    picture = ImageOps.exif_transpose(opened)
    if picture.mode not in ("L", "I", "F") and not picture.mode.startswith("I;16"):
        picture = picture.convert("RGB").convert("L")
    return np.asarray(picture).T, PICTURE_AFFINE, None


def turn(affine):
    """Whether to swap the first two axes, and which ones to flip afterwards, so that the slice is upright."""
    first = int(np.abs(affine[:, 0]).argmax())
    second = max(sorted({0, 1, 2} - {first}), key=lambda axis: abs(affine[axis, 1]))
    flips, swap = [affine[first, 0] > 0, affine[second, 1] > 0], first > second
    return swap, tuple(axis + 1 for axis, flip in enumerate(flips[::-1] if swap else flips) if flip)


def bilinear(old, new):
    """Matrix (new, old) of bilinear resampling along an axis."""
    position = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
    low = np.minimum(position.astype(int), old - 1)
    unit, part = np.eye(old), (position - low)[:, None]
    return unit[low] * (1 - part) + unit[np.minimum(low + 1, old - 1)] * part


def open_network(folder, precision="float32", runtime=None):
    """A function from (1, 3, columns, rows) to logits, on the CPU; of several runtimes the one for the precision."""
    model = folder / ("model_int8.onnx" if precision == "int8" else "model.onnx")
    if not model.is_file():
        raise ValueError(f"there is no {model.name} here: export it with --int8")
    order = ["onnxruntime", "openvino"] if precision == "float32" else ["openvino", "onnxruntime"]
    runtime = runtime or next((name for name in order if importlib.util.find_spec(name)), None)
    if runtime is None or not importlib.util.find_spec(runtime):
        raise ValueError(f"{runtime or 'a runtime'} is not installed: pip install onnxruntime, or openvino")
    if runtime == "openvino":
        import openvino

        hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
        compiled = openvino.compile_model(model, "CPU", hint)
        return lambda image: compiled(image)[0]
    if precision == "bfloat16":
        raise ValueError("onnxruntime has no bfloat16 on a CPU: pip install openvino")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


@np.errstate(over="ignore", invalid="ignore")
def predict(image, affine, network, settings):
    """Probabilities: of tumour, with the shape of the image; for several channels, (channels, *shape of the image); for
    a classification, (slices, classes)."""
    exact = image.astype(float) if image.size and image.dtype.kind in "buif" else np.zeros(1)
    rounded = exact.astype(np.float32)
    if image.ndim not in (2, 3) or min(image.shape[:2]) < 2 or np.linalg.matrix_rank(affine) < 3:
        raise ValueError("it is not a grey slice or volume, or its affine is singular")
    if not 0 < np.ptp(rounded) < np.inf or np.abs(exact - rounded).max() > np.ptp(exact) / 512:
        raise ValueError("it is constant, or has NaN, or values that 32 bits can't represent")
    slices = np.moveaxis(image[..., None] if image.ndim == 2 else image, 2, 0).astype(np.float32)
    low, high = slices.min((1, 2), keepdims=True), slices.max((1, 2), keepdims=True)
    slices = (slices - low) / np.where(high > low, high - low, 1)
    swap, flips = turn(affine) if settings["upright"] else (False, ())
    slices = np.flip(slices.swapaxes(1, 2) if swap else slices, flips)
    side = settings["image_size"]
    mean, std = (np.reshape(settings[name], (1, 3, 1, 1)) for name in ("mean", "std"))
    small = bilinear(slices.shape[1], side) @ slices @ bilinear(slices.shape[2], side).T
    inputs = ((small[:, None] - mean) / std).astype(np.float32)
    logits = np.concatenate([network(each[None]) for each in inputs]).astype(float)
    if settings["task"] == "classification":
        return softmax(logits, settings["temperature"])
    found = softmax(logits) if settings["activation"] == "softmax" else 1 / (1 + np.exp(-logits))
    found = np.moveaxis(bilinear(side, slices.shape[1]) @ found @ bilinear(side, slices.shape[2]).T, 0, 1)
    found = np.flip(found, tuple(axis + 1 for axis in flips))
    found = np.moveaxis(found.swapaxes(2, 3) if swap else found, 1, 3).reshape(-1, *image.shape)
    return found if len(found) > 1 else found[0]


def softmax(logits, temperature=1.0):
    odds = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return odds / odds.sum(axis=1, keepdims=True)


def judge(mask, found, shape, affine, settings):
    """Empty slices whose presence score is below the threshold, and drop marks that reach over too few mm of slices.

    The score of a slice is its highest probability of tumour, or the mean of the 25 highest on a grid of 256 × 256, and
    of as many for its area on another grid. A mark is a connected area over the slices."""
    several = found.reshape(-1, *shape)[int(settings["activation"] == "softmax") :]
    pixels = several.max(axis=0).reshape(shape[0] * shape[1], -1)
    count = 1 if settings["presence_score"] == "max" else max(1, round(25 / 256**2 * len(pixels)))
    scores = np.partition(pixels, -count, axis=0)[-count:].mean(axis=0)
    step = abs(np.linalg.det(affine)) / np.linalg.norm(np.cross(affine[:, 0], affine[:, 1]))
    scores = in_context(scores, step, settings["presence_context"])
    row = {"presence_score": round(float(scores.max()), 4)}
    if settings["presence_threshold"] is not None:
        passed, row["presence_threshold"] = scores >= settings["presence_threshold"], settings["presence_threshold"]
        mask = mask * (passed if len(shape) > 2 else passed[0])
    if settings["smallest_extent_mm"] > 0 and shape[2:] > (1,):
        thin = thin_marks(mask.reshape(-1, *shape).any(axis=0), settings["smallest_extent_mm"] / step - 1e-3)
        mask, row["dropped_marks"] = mask * ~(thin > 0), len(np.unique(thin[thin > 0]))
    return mask.astype(np.uint8), row


def in_context(scores, step, weight):
    """Lower scores where they are high on slices that reach over less than 5 mm, from centre to centre."""
    steps = max(1, int(np.ceil((5 - 1e-3) / step)))
    if not weight or steps >= len(scores) or step > 15 + 1e-3:
        return scores
    lowest = np.lib.stride_tricks.sliding_window_view(scores, steps + 1).min(1)
    best = np.lib.stride_tricks.sliding_window_view(np.pad(lowest, steps), steps + 1).max(1)
    odds = [np.log(each / (1 - each)) for each in np.clip([scores, best], 1e-6, 1 - 1e-6)]
    return np.where(best < scores, 1 / (1 + np.exp(-np.average(odds, 0, [1, weight]))), scores)


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


def expanded(text):
    """A path with ~ expanded, which a shell leaves in --output_dir=~/masks."""
    return Path(os.path.expanduser(text))


def main():
    settings = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slices", type=expanded, nargs="+", metavar="SLICE")
    parser.add_argument("--output_dir", type=expanded, default=Path(), help="for masks (default: working directory)")
    parser.add_argument("--threshold", type=float, default=settings.get("threshold"), help="on the probability")
    parser.add_argument("--presence_threshold", type=float, help="on the presence score of a slice")
    parser.add_argument("--presence_context", type=float, help="weight of the neighbours of a slice, 0 to 1")
    parser.add_argument("--smallest_extent_mm", type=float, help="of a mark across the slices of a volume")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "int8"], default=settings["precision"])
    parser.add_argument("--runtime", choices=["onnxruntime", "openvino"], help="default: the one that is installed")
    given = parser.parse_args()
    if given.threshold is not None and settings.get("activation") == "softmax":
        parser.error("--threshold is not allowed here, because each pixel gets its most probable class")
    for name in ("presence_threshold", "presence_context", "smallest_extent_mm"):
        settings[name] = settings.get(name) if getattr(given, name) is None else getattr(given, name)
    names = [path.name.removesuffix(".gz").rsplit(".", 1)[0] + "_mask" for path in given.slices]
    if len(set(names)) < len(names):
        parser.error("two files would get masks of the same name: run them one by one, with different --output_dir")
    try:
        network = open_network(HERE, given.precision, given.runtime)
        if settings["task"] == "segmentation":
            given.output_dir.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    failed = 0
    for path, name in zip(given.slices, names, strict=True):
        try:
            image, affine, header = read(path)
            found = predict(image, affine, network, settings)
        except Exception as error:  # damaged files raise many types of errors, large ones MemoryError
            print(f"{path.name}: left out: {type(error).__name__}, {error}", file=sys.stderr)
            failed += 1
            continue
        if settings["task"] == "classification":
            for number, row in enumerate(found):
                named = dict(zip(settings["class_names"], row.round(4).tolist(), strict=True))
                best = max(named, key=named.__getitem__)
                print(json.dumps({"file": path.name, "slice": number, "class": best, **named}))
            continue
        # 0 and 1, or the numbers of several classes; of classes that may overlap a mask each, in front.
        mask = found.argmax(axis=0) if settings["activation"] == "softmax" else found >= given.threshold
        overlapping = mask.ndim > image.ndim
        mask, judged = judge(mask, found, image.shape, affine, settings)
        if header is None:
            np.save(given.output_dir / f"{name}.npy", np.stack([m.T for m in mask]) if overlapping else mask.T)
        else:
            write_nifti(given.output_dir / f"{name}.nii.gz", mask, header, overlapping)
        classes = list(settings["labels"].values())[1:]
        each = mask if overlapping else [mask == number for number in range(1, 1 + len(classes))]
        counts = {label: int(np.sum(own)) for label, own in zip(classes, each, strict=True)}
        row = {"file": path.name, "tumour": bool(mask.any()), "pixels": int((sum(each) > 0).sum()), **judged}
        print(json.dumps(row | ({"classes": counts} if len(counts) > 1 else {})))
    return int(failed == len(given.slices))


if __name__ == "__main__":
    sys.exit(main())
