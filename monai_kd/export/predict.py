"""Segment or classify head slices, with numpy and onnxruntime or OpenVINO. Research only: this is no medical device.

A SLICE is NIfTI (a slice or a volume), an upright .npy array (rows, columns), or, if Pillow is installed, PNG or JPEG.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

if __package__:
    from . import network_file, slice_files
else:
    import network_file  # type: ignore[import-not-found, no-redef]
    import slice_files  # type: ignore[import-not-found, no-redef]

HERE = Path(__file__).resolve().parent
MOST_SLICES = 9  # of the middle half of a volume, whose features are looked at
UNLIKE = "its features are unlike those of the training slices (distance {:.1f}, where up to 1 is usual)"
NOT_JUDGED = "not judged"
NUMBERS = {
    "threshold": "on the probability, or expected_dice",
    "presence_threshold": "on the presence score of a slice",
    "presence_context": "weight of the neighbours of a slice, 0 to 1",
    "smallest_extent_mm": "of a mark across the slices of a volume",
}


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


@np.errstate(over="ignore", invalid="ignore")
def predict(image, affine, network, settings, familiarity=None, reader=None):
    """Probabilities: of tumour, with the shape of the image; for several channels, (channels, *shape of the image); for
    a classification, (slices, classes). The distance of the features, see `feature_distance`. And the log-odds of a
    tumour on each slice, by a second network or by the classes of this one."""
    if image.ndim not in (2, 3) or min(image.shape[:2]) < 2 or np.linalg.matrix_rank(affine) < 3:
        raise ValueError("it is not a grey slice or volume, or its affine is singular")
    values = slice_files.grey_values(image)
    slices = np.moveaxis(values[..., None] if image.ndim == 2 else values, 2, 0)
    low, high = slices.min((1, 2), keepdims=True), slices.max((1, 2), keepdims=True)
    slices = (slices - low) / np.where(high > low, high - low, 1)
    swap, flips = turn(affine) if settings["upright"] else (False, ())
    slices = np.flip(slices.swapaxes(1, 2) if swap else slices, flips)
    side = settings["image_size"]
    mean, std = (np.reshape(settings[name], (1, 3, 1, 1)) for name in ("mean", "std"))
    small = bilinear(slices.shape[1], side) @ slices @ bilinear(slices.shape[2], side).T
    inputs = ((small[:, None] - mean) / std).astype(np.float32)
    outputs = zip(*(network(each[None]) for each in inputs), strict=True)
    logits, *others = (np.concatenate(each).astype(float) for each in outputs)
    distance = None if familiarity is None else feature_distance(others[0], familiarity)
    second = others[-1][:, 0] if "own_classes" in settings else None
    if reader is not None:
        second = np.array([reader(each[None])[0][0, 0] for each in inputs], float)
    if not np.isfinite(logits).all() or not np.isfinite(0 if second is None else second).all():
        raise ValueError("the network gives values that are not finite")
    if settings["task"] == "classification":
        return network_file.softmax(logits, settings["temperature"]), distance, second
    found = network_file.softmax(logits) if settings["activation"] == "softmax" else probability(logits)
    found = np.moveaxis(bilinear(side, slices.shape[1]) @ found @ bilinear(side, slices.shape[2]).T, 0, 1)
    found = np.flip(found, tuple(axis + 1 for axis in flips))
    found = np.moveaxis(found.swapaxes(2, 3) if swap else found, 1, 3).reshape(-1, *image.shape)
    return found if len(found) > 1 else found[0], distance, second


def probability(odds):
    return 1 / (1 + np.exp(-odds))


def log_odds(scores):
    return -np.log(1 / np.clip(scores, 1e-6, 1 - 1e-6) - 1)


def feature_distance(features, familiarity):
    """Mahalanobis distance of the features of slices, (slices, channels), from those of the training slices, of which
    up to 1 is usual; of a volume, the median over slices of its middle half."""
    last = len(features) - 1
    middle = np.unique(np.linspace(last / 4, 3 * last / 4, min(last + 1, MOST_SLICES)).round().astype(int))
    away = features[middle] - familiarity["mean"]
    squared = np.einsum("ni,ij,nj->n", away, familiarity["precision"], away)
    return round(float(np.median(np.sqrt(squared.clip(0)))) / float(familiarity["usual"]), 2)


def decide(found, shape, settings):
    """The most probable class, or masks by the threshold, which expected_dice chooses for each slice."""
    if settings["activation"] == "softmax":
        return found.argmax(axis=0)
    if settings["threshold"] != network_file.EXPECTED_DICE:
        return found >= settings["threshold"]
    slices = np.moveaxis(found.reshape(-1, *shape[:2], *(shape[2:] or (1,))), 3, 1)
    masks = [[network_file.marked(each, settings["threshold"]) for each in channel] for channel in slices]
    return np.moveaxis(np.array(masks), 1, 3).reshape(found.shape)


def judge(mask, found, shape, affine, settings, second=None):
    """Empty slices whose presence score is below the threshold, and drop marks that reach over too few mm of slices.

    The score of a slice is its highest probability of tumour, or the mean of the 25 highest on a grid of 256 × 256, and
    of as many for its area on another grid; with a second opinion, the mean in log-odds. A mark is a connected area
    over the slices."""
    several = found.reshape(-1, *shape)[int(settings["activation"] == "softmax") :]
    pixels = several.max(axis=0).reshape(shape[0] * shape[1], -1)
    count = 1 if settings["presence_score"] == "max" else max(1, round(25 / 256**2 * len(pixels)))
    scores = np.partition(pixels, -count, axis=0)[-count:].mean(axis=0)
    if second is not None:
        scores = probability((log_odds(scores) + second.clip(*log_odds([0, 1]))) / 2)
    scores = in_context(scores, network_file.slice_step(affine), settings["presence_context"])
    row = {"presence_score": round(float(scores.max()), 4)}
    if settings["presence_threshold"] is not None:
        passed, row["presence_threshold"] = scores >= settings["presence_threshold"], settings["presence_threshold"]
        mask = mask * (passed if len(shape) > 2 else passed[0])
    if settings["smallest_extent_mm"] > 0 and shape[2:] > (1,):
        mask, row["dropped_marks"] = network_file.without_thin(mask, shape, affine, settings["smallest_extent_mm"])
    return mask.astype(np.uint8), row


def in_context(scores, step, weight):
    """Lower scores where they are high on slices that reach over less than 5 mm, from centre to centre."""
    steps = max(1, int(np.ceil((5 - 1e-3) / step)))
    if not weight or steps >= len(scores) or step > 15 + 1e-3:
        return scores
    lowest = np.lib.stride_tricks.sliding_window_view(scores, steps + 1).min(1)
    best = np.lib.stride_tricks.sliding_window_view(np.pad(lowest, steps), steps + 1).max(1)
    return np.where(best < scores, probability(np.average(log_odds([scores, best]), 0, [1, weight])), scores)


def main():
    settings = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    slice_files.add_files(parser, "slices", "SLICE")
    for name, text in NUMBERS.items():
        parsed = network_file.number_or_rule if name == "threshold" else float
        parser.add_argument(f"--{name}", type=parsed, default=settings.get(name), help=text)
    parser.add_argument("--judge_unfit", action="store_true", help="judge images unlike the training slices, too")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "int8"], default=settings["precision"])
    parser.add_argument("--runtime", choices=["onnxruntime", "openvino"], help="default: the one that is installed")
    given = parser.parse_args()
    if given.threshold is not None and settings.get("activation") == "softmax":
        parser.error("--threshold is not allowed here, because each pixel gets its most probable class")
    for name in NUMBERS:
        settings[name], end = getattr(given, name), np.inf if name == "smallest_extent_mm" else 1
        if settings[name] not in (None, network_file.EXPECTED_DICE) and not 0 <= settings[name] <= end:
            parser.error(f"--{name} must lie between 0 and {end}, got {settings[name]}")
    if settings["threshold"] == network_file.EXPECTED_DICE and settings["presence_threshold"] is None:
        parser.error(
            f"--threshold {network_file.EXPECTED_DICE} marks something in nearly each slice: give "
            "--presence_threshold, 0 if each shows a tumour"
        )
    masks = [given.output_dir / slice_files.mask_name(path.name) for path in given.slices]
    try:
        familiarity = dict(np.load(HERE / "familiarity.npz")) if "unfamiliar_from" in settings else None
        names = ["model", *(["classifier"] if "classifier" in settings else [])]
        network, *reader = (network_file.open_network(HERE, given.precision, given.runtime, name) for name in names)
        if settings["task"] == "segmentation":
            slice_files.check_masks(masks, given.overwrite, given.slices)
            slice_files.make_room(given.output_dir, masks)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    failed = 0
    for path, written in zip(given.slices, masks, strict=True):
        try:
            image, affine, header = slice_files.read(path)
            found, distance, second = predict(image, affine, network, settings, familiarity, *reader)
        except Exception as error:  # damaged files raise many types of errors, large ones MemoryError
            print(f"{path.name}: left out: {type(error).__name__}, {error}", file=sys.stderr)
            failed += 1
            continue
        seen, unlike = {} if distance is None else {"feature_distance": distance}, False
        if distance is not None and distance >= settings["unfamiliar_from"]:
            seen["warning"], unlike = UNLIKE.format(distance), not given.judge_unfit
        if settings["task"] == "classification":
            for number, row in enumerate(found):
                named = dict(zip(settings["class_names"], row.round(4).tolist(), strict=True))
                best = NOT_JUDGED if unlike else max(named, key=named.__getitem__)
                print(json.dumps({"file": path.name, "slice": number, "class": best, **named, **seen}))
            continue
        # 0 and 1, or the numbers of several classes; of classes that may overlap a mask each, in front.
        mask = decide(found, image.shape, settings)
        overlapping = mask.ndim > image.ndim
        mask, judged = judge(mask, found, image.shape, affine, settings, second)
        mask = mask * (not unlike)
        try:
            slice_files.write(written, mask, header, overlapping)
        except OSError as error:
            parser.error(f"{written} can't be written: {error.strerror}")
        classes = list(settings["labels"].values())[1:]
        each = mask if overlapping else [mask == number for number in range(1, 1 + len(classes))]
        counts = {label: int(np.sum(own)) for label, own in zip(classes, each, strict=True)}
        tumour = NOT_JUDGED if unlike else bool(mask.any())
        row = {"file": path.name, "tumour": tumour, "pixels": int((sum(each) > 0).sum()), **judged, **seen}
        print(json.dumps(row | ({"classes": counts} if len(counts) > 1 else {})))
    return int(failed == len(given.slices))


if __name__ == "__main__":
    sys.exit(main())
