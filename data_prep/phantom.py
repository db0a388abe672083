"""Write synthetic slices as genuine `.mat` files, to try the tools without any patient's data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep import pool
from data_prep.marker import MARKER
from data_prep.matfile import RawSlice
from data_prep.matwriter import write_slice
from data_prep.phantom_head import VIEWS, Head, Noise
from data_prep.phantom_tumour import ANGLES, outline, paint, tumour
from data_prep.polygon import poly2mask
from data_prep.writers import remove_temporary, write_file

SLICES_PER_PATIENT = 4
SIZES = (64, 1024)


class PhantomError(Exception):
    """The requested phantoms cannot be made or written."""


@dataclass(frozen=True)
class _Patient:
    dst: Path
    number: int
    slices: int
    seed: int
    size: int


def write_phantoms(
    dst: str | Path,
    slices: int = 240,
    seed: int = 0,
    size: int = 256,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write `slices` synthetic head slices as `1.mat`, `2.mat`, ... into a folder of their own.

    Four slices at a time are one patient: neighbouring slices in one view, with one tumour. Slice n depends only on
    seed, size and n, so a larger set begins with the slices of a smaller one. Called again with the same values, it
    keeps the slices that exist. Every file and `PHANTOM.txt` mark the slices as synthetic, and `convert` copies this
    mark to its output.

    Args:
        dst: folder, made if needed; must be empty or hold phantoms made with the same values.
        slices: number of slices.
        seed: of the random heads and tumours.
        size: rows and columns in pixels, 64 to 1024.
        workers: number of processes; None for the number of cores. 1 works in this process.
        progress: show a progress bar on stderr.

    Returns:
        The folder.

    Raises:
        PhantomError: a value is out of range, the folder holds something else, or a worker process died.
    """
    dst = Path(dst)
    if slices < 1 or seed < 0 or not SIZES[0] <= size <= SIZES[1]:
        raise PhantomError(
            f"slices must be 1 or more, seed 0 or more, size {SIZES[0]} to {SIZES[1]}; got {slices}, {seed}, {size}"
        )
    try:
        _claim(dst, slices, seed, size)
        patients = [
            _Patient(dst, number, min(SLICES_PER_PATIENT, slices - number * SLICES_PER_PATIENT), seed, size)
            for number in range(-(-slices // SLICES_PER_PATIENT))
        ]
        missing = [p for p in patients if not all((dst / f"{n}.mat").exists() for n in _numbers(p))]
        workers = min(workers or pool.available_cores(), -(-len(missing) // 4))
        with tqdm(total=slices, unit="slice", desc="synthetic phantoms", disable=not progress, mininterval=0.5) as bar:
            bar.update(slices - sum(p.slices for p in missing))
            for made in pool.run(_write_patient, missing, workers):
                bar.update(made)
    except pool.WorkerDied as error:
        raise PhantomError(f"{error}. Run the same command again to go on, with fewer --workers") from None
    except OSError as error:
        raise PhantomError(f"cannot write to {dst}: {error}") from error
    return dst


def phantom_slices(patient: int, seed: int = 0, size: int = 256, slices: int = SLICES_PER_PATIENT) -> list[RawSlice]:
    """The first slices of one synthetic patient (counted from 0), each with image, mask, border, label and PID.

    Images are int16, (size, size), with an arbitrary gain that differs from slice to slice, as in the real files.
    """
    head, label, rng = draw_head(patient, seed, size)
    lesion = tumour(label, head.anatomy, rng)
    noise = Noise(rng, size)
    grain, blotch = noise.field(8, 40), noise.field(3, 9)
    middle, span = rng.uniform(0.8, 2.2), rng.uniform(3.6, 4.6)
    noise_level = rng.uniform(0.008, 0.03)
    found = []
    for k in range(slices):
        size_factor = 1 - ((k - middle) / span) ** 2
        edge = outline(lesion, head.anatomy, size_factor)
        position = 0.2 * k
        image = paint(head.slice_at(position), head, lesion, edge, grain(position), blotch(position))
        own = np.random.default_rng([seed, 3, patient, k])
        border = np.stack([lesion.x + edge * np.cos(ANGLES), lesion.y + edge * np.sin(ANGLES)], axis=1)
        border = (border + 1) * size / 2 + 0.5
        mask = poly2mask(border[:, 0], border[:, 1], (size, size))
        pid = f"PHANTOM{patient + 1:04d}"
        name = f"{patient * SLICES_PER_PATIENT + k + 1}.mat"
        found.append(RawSlice(_scanned(image, noise_level, own), mask, border, label, pid, name, synthetic=True))
    return found


def draw_head(patient: int, seed: int, size: int) -> tuple[Head, int, np.random.Generator]:
    """The head of a synthetic patient, the label of its tumour, and the generator that draws what follows."""
    # Blocks of three patients have one of each label; views change from block to block.
    block, place = divmod(patient, 3)
    label = int(np.random.default_rng([seed, 1, block]).permutation([1, 2, 3])[place])
    rng = np.random.default_rng([seed, 2, patient])
    return Head(VIEWS[(block + label) % len(VIEWS)], size, rng), label, rng


def _scanned(image: np.ndarray, noise_level: float, rng: np.random.Generator) -> np.ndarray:
    """The image with the Rician noise of a magnitude image and the scanner's arbitrary gain, as int16."""
    real = image + noise_level * rng.standard_normal(image.shape, np.float32)
    imaginary = noise_level * rng.standard_normal(image.shape, np.float32)
    magnitude = np.hypot(real, imaginary)
    return np.rint(magnitude * (rng.uniform(500, 5000) / magnitude.max())).astype(np.int16)


def _numbers(patient: _Patient) -> range:
    first = patient.number * SLICES_PER_PATIENT + 1
    return range(first, first + patient.slices)


def _write_patient(patient: _Patient) -> int:
    made = phantom_slices(patient.number, patient.seed, patient.size, patient.slices)
    for raw in made:
        write_slice(patient.dst / raw.source, raw, "SYNTHETIC PHANTOM, no patient,")
    return len(made)


def _claim(dst: Path, slices: int, seed: int, size: int) -> None:
    text = (
        "These slices are synthetic phantoms made by `python -m data_prep phantom`.\n"
        "No patient is in them; results on them say nothing about real images.\n"
        f"slices {slices}, seed {seed}, size {size}\n"
    )
    dst.mkdir(parents=True, exist_ok=True)
    marker = dst / MARKER
    if marker.exists():
        if marker.read_text(encoding="utf-8") != text:
            raise PhantomError(f"{dst} holds phantoms made with other values (see {MARKER}): choose another folder")
    elif any(dst.iterdir()):
        raise PhantomError(f"{dst} is not empty and holds no phantoms: choose another folder")
    remove_temporary(dst)
    write_file(marker, text)
