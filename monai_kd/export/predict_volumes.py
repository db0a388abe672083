"""Find regions in volumes, with numpy and onnxruntime or OpenVINO. Research only: this is no medical device.

A VOLUME is a NIfTI file with all channels on its fourth axis, or one file for each channel, whose names end with those
of "channels" in settings.json: P1_flair.nii.gz P1_t1.nii.gz, or P1/flair.nii.gz P1/t1.nii.gz.
"""

import argparse
import functools
import itertools
import json
import sys
from pathlib import Path

import numpy as np

if __package__:
    from . import network_file, slice_files, volume_values
else:
    import network_file  # type: ignore[import-not-found, no-redef]
    import slice_files  # type: ignore[import-not-found, no-redef]
    import volume_values  # type: ignore[import-not-found, no-redef]

HERE = Path(__file__).resolve().parent
APART = 0.1  # voxels that channels may lie apart, for affines that were rounded
LEAST_WEIGHT = 1e-3  # of a voxel of a window
NEAR_ZERO = 1e-5  # of the largest value of a channel
NUMBERS = {
    "threshold": ("on the probability, or expected_dice", 0, 1),
    "smallest_extent_mm": ("of a mark across the slices", 0, np.inf),
    "overlap": ("of neighbouring windows", 0, 0.99),
}


def turn(affine, orientation):
    """The order of the axes that brings a volume to an orientation such as RAS, and which to flip afterwards."""
    left, _, right = np.linalg.svd(affine / np.linalg.norm(affine, axis=0))
    nearest = left @ right
    along = {}
    # The axis first that lies nearest to one of the patient's, as nibabel takes them.
    for axis in np.argsort(-(nearest**2).max(axis=0), kind="stable"):
        world = int(np.abs(nearest[:, axis]).argmax())
        along[world] = int(axis), nearest[world, axis] > 0
        nearest[world] = 0
    wanted = [along[["LR", "PA", "IS"].index(pair)] for pair in map(_pair, orientation)]
    flips = [
        k for k, (letter, (_, rises)) in enumerate(zip(orientation, wanted, strict=True)) if rises != (letter in "RAS")
    ]
    return [axis for axis, _ in wanted], flips


def _pair(letter):
    return next(pair for pair in ("LR", "PA", "IS") if letter in pair)


def resampling(affine, shape, spacing):
    """The size along each axis of a grid of other voxels, its step and its start in voxels of the old grid, as MONAI's
    Spacing has them: from the first voxel on, or, if a rounded affine hides which that is, around the same centre."""
    squared = np.linalg.cholesky(affine.T @ affine).T
    new = affine @ np.linalg.inv(squared) @ np.diag(np.sign(np.diag(squared)) * spacing)
    corners = np.array([*itertools.product(*((0, length - 1) for length in shape))], dtype=float).T
    places = np.linalg.solve(new, affine) @ corners
    size = np.round(np.ptp(places, axis=1) + 1).astype(int)
    first = [n for n in range(corners.shape[1]) if np.allclose((places - places[:, [n]]).min(axis=1), 0)]
    origin = affine @ corners[:, first[0]] if first else affine @ np.divide(shape, 2) - new @ (size / 2)
    steps, start = np.linalg.solve(affine, new), np.linalg.solve(affine, origin)
    if not np.allclose(steps, np.diag(np.diag(steps)), atol=1e-3):
        raise ValueError("its axes are not at right angles, so it can't be resampled")
    return size, np.diag(steps), start


def resampled(image, sizes, steps, starts):
    """A volume, (C, X, Y, Z), linearly interpolated along its axes at ``starts`` + n · ``steps``."""
    for axis, (size, step, start) in enumerate(zip(sizes, steps, starts, strict=True), 1):
        last = image.shape[axis] - 1
        place = np.clip(np.arange(size) * step + start, 0, last)
        low = np.minimum(place.astype(int), max(last - 1, 0))
        part = (place - low).astype(np.float32).reshape(-1, *[1] * (3 - axis))
        image = image.take(low, axis) * (1 - part) + image.take(np.minimum(low + 1, last), axis) * part
    return image


def windows(image, network, size, overlap):
    """Logits of a volume, from windows weighted by a Gaussian, as MONAI's SlidingWindowInferer joins them."""
    before = [max(side - length, 0) // 2 for side, length in zip(size, image.shape[1:], strict=True)]
    after = [max(side - length, 0) - first for side, length, first in zip(size, image.shape[1:], before, strict=True)]
    padded = np.pad(image, [(0, 0), *zip(before, after, strict=True)])
    lengths = padded.shape[1:]
    starts = [_starts(*each, overlap) for each in zip(lengths, size, strict=True)]
    bells = [np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / (2 * (n / 8) ** 2)) for n in size]
    weight = functools.reduce(np.multiply.outer, bells)
    weight = np.maximum(weight, max(weight.min(), LEAST_WEIGHT)).astype(np.float32)
    total, weights = np.zeros((1, *lengths), np.float32), np.zeros(lengths, np.float32)
    for corner in itertools.product(*starts):
        inside = tuple(slice(first, first + side) for first, side in zip(corner, size, strict=True))
        window = (slice(None), *inside)
        logits = network(np.ascontiguousarray(padded[window][None]))[0][0]
        if len(total) != len(logits):
            total = np.zeros((len(logits), *lengths), np.float32)
        total[window] += logits * weight
        weights[inside] += weight
    kept = (slice(None), *(slice(first, first + n) for first, n in zip(before, image.shape[1:], strict=True)))
    return (total / weights)[kept]


def _starts(length, side, overlap):
    step = side if length == side else max(int(side * (1 - overlap)), 1)
    return sorted({min(first, length - side) for first in range(0, length - side + step, step)})


@np.errstate(over="ignore", invalid="ignore")
def predict(image, affine, network, settings):
    """Probabilities of the regions, or of classes with the background, (n, X, Y, Z), of a volume, (C, X, Y, Z)."""
    channels = settings["channels"]
    if image.ndim != 4 or len(image) != len(channels) or np.linalg.matrix_rank(affine) < 3:
        raise ValueError(f"it is not a volume with the channels {', '.join(channels)}, or its affine is singular")
    values = []
    for name, channel in zip(channels, image, strict=True):
        try:
            values.append(slice_files.grey_values(channel))
        except ValueError as error:
            raise ValueError(f"channel {name}: {error}") from None
    turned, back = on_grid(np.stack(values), affine, settings)
    ready = volume_values.normalised(turned, settings["normalization"])
    logits = windows(ready, network, settings["image_size"], settings["overlap"])
    found = network_file.softmax(logits[None])[0] if settings["activation"] == "softmax" else 1 / (1 + np.exp(-logits))
    return back(found)


def on_grid(image, affine, settings):
    """A volume turned and resampled as the network takes it, and a function that brings such a volume back."""
    order, flips = turn(affine, settings["orientation"]) if settings["orientation"] else ([0, 1, 2], [])
    axes, flipped = [0, *(axis + 1 for axis in order)], tuple(axis + 1 for axis in flips)
    turned = np.flip(image.transpose(axes), flipped)
    if settings["spacing"] is None:
        return turned, lambda found: np.flip(found, flipped).transpose(np.argsort(axes))
    shape = turned.shape[1:]
    signs = np.where(np.isin(range(3), flips), -1, 1)
    size, steps, starts = resampling(affine[:, order] * signs, shape, settings["spacing"])
    slice_files.check_size((len(turned), *size.tolist()))

    def back(found):
        return np.flip(resampled(found, shape, 1 / steps, -starts / steps), flipped).transpose(np.argsort(axes))

    values = resampled(turned, size, steps, starts)
    # As the bundle does: next to 0 it has only been rounded, and a normalisation may count values that are not 0.
    least = NEAR_ZERO * np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    return np.where(np.abs(values) <= least, np.float32(0), values), back


def masks_of(found, affine, settings):
    """The number of each voxel's class, (X, Y, Z), or a mask of each region, (n, X, Y, Z), without thin marks; and how
    many of these there were."""
    if settings["activation"] == "softmax":
        mask = found.argmax(axis=0)
    else:
        mask = np.stack([network_file.marked(each, settings["threshold"]) for each in found])
    mask, dropped = mask[0] if len(mask) == 1 and mask.ndim == 4 else mask, 0
    if settings["smallest_extent_mm"] > 0 and mask.shape[-1] > 1:
        least = settings["smallest_extent_mm"]
        mask, dropped = network_file.without_thin(mask, mask.shape[-3:], affine, least)
    return mask.astype(np.uint8), dropped


def images_of(paths, channels):
    """Files of each image, by a path without suffix that names it: those of its channels by name, or one with all; and
    a line for each file or image that is left out."""
    found: dict = {}
    left = {}
    for path in paths:
        stem = slice_files.mask_name(path.name).removesuffix("_mask.nii.gz")
        if not path.name.lower().endswith(slice_files.NIFTI):
            left[path] = f"{path.name}: left out: it is not a .nii or .nii.gz file"
            continue
        named = [name for name in channels if len(channels) > 1 and _ends_with(stem, name)]
        channel = max(named, key=len, default="")
        image = path.absolute().parent / stem[: len(stem) - len(channel)].rstrip("_-. " if channel else "")
        files = found.setdefault(image, {})
        if channel in files or (files and "" in {channel, *files}):
            other = next(iter(files.values())).name
            left[image] = f"{image.name}: left out: {path.name} and {other} are the same part of one image"
        files[channel] = path
    return {image: files for image, files in found.items() if image not in left}, list(left.values())


def _ends_with(stem, name):
    rest = stem[: len(stem) - len(name)]
    return stem.lower().endswith(name.lower()) and not rest[-1:].isalnum()


def read_image(files, channels):
    """The image, (C, X, Y, Z), the 3 × 3 part of its affine, and the header of its first file."""
    if "" in files:
        image, affine, header = slice_files.read(files[""], channels=True)
        return (np.moveaxis(image, 3, 0) if image.ndim == 4 else image[None]), affine, header
    if lacking := [name for name in channels if name not in files]:
        raise ValueError(f"it has no file whose name ends with {' or '.join(lacking)}")
    parts = [slice_files.read(files[name]) for name in channels]
    image, affine, header = parts[0]
    lengths = [*image.shape, 1][:3]
    for name, (other, its_affine, its_header) in zip(channels, parts, strict=True):
        away = np.abs([*((its_affine - affine) * lengths).T, its_header[-1] - header[-1]]).sum(axis=0)
        if other.shape != image.shape or away.max() > APART * np.linalg.norm(affine, axis=0).min():
            raise ValueError(f"{name} is not on the grid of {channels[0]}: resample all channels onto one grid")
    return np.stack([part[0] for part in parts]), affine, header


def main():
    settings = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    slice_files.add_files(parser, "volumes", "VOLUME")
    for name, (text, _, _) in NUMBERS.items():
        parsed = network_file.number_or_rule if name == "threshold" else float
        parser.add_argument(f"--{name}", type=parsed, default=settings[name], help=text)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default=settings["precision"])
    parser.add_argument("--runtime", choices=["onnxruntime", "openvino"], help="default: the one that is installed")
    given = parser.parse_args()
    if given.threshold is not None and settings["activation"] == "softmax":
        parser.error("--threshold is not allowed here, because each voxel gets its most probable class")
    for name, (_, least, most) in NUMBERS.items():
        settings[name] = getattr(given, name)
        if settings[name] not in (None, network_file.EXPECTED_DICE) and not least <= settings[name] <= most:
            parser.error(f"--{name} must lie between {least} and {most}, got {settings[name]}")
    try:
        images, left = images_of(given.volumes, settings["channels"])
        if not images:
            raise ValueError("; ".join(left))
        masks = [given.output_dir / f"{image.name}_mask.nii.gz" for image in images]
        network = network_file.open_network(HERE, given.precision, given.runtime)
        slice_files.check_masks(masks, given.overwrite, given.volumes)
        slice_files.make_room(given.output_dir, masks)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for line in left:
        print(line, file=sys.stderr)
    failed = 0
    for (path, files), written in zip(images.items(), masks, strict=True):
        try:
            image, affine, header = read_image(files, settings["channels"])
            mask, dropped = masks_of(predict(image, affine, network, settings), affine, settings)
        except Exception as error:  # damaged files raise many types of errors, large ones MemoryError
            kind = "" if type(error) is ValueError else f"{type(error).__name__}, "
            print(f"{path.name}: left out: {kind}{error}", file=sys.stderr)
            failed += 1
            continue
        try:
            slice_files.write(written, mask, header, mask.ndim > 3)
        except OSError as error:
            parser.error(f"{written} can't be written: {error.strerror}")
        regions = settings["labels"].items()
        each = mask if mask.ndim > 3 else [mask == int(number) for number, _ in regions]
        counts = {name: int(np.sum(own)) for (_, name), own in zip(regions, each, strict=True)}
        millilitres = abs(np.linalg.det(affine)) / 1000
        found = {name: {"voxels": count, "ml": round(count * millilitres, 3)} for name, count in counts.items()}
        print(json.dumps({"file": path.name, "regions": found, "dropped_marks": dropped}))
    return int(failed == len(images))


if __name__ == "__main__":
    sys.exit(main())
