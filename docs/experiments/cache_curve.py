"""Start-up time and memory of a training's data set against its number of slices; see docs/performance.md.

    python docs/experiments/cache_curve.py FOLDER COUNT [COUNT …]

writes generated slices of 64 × 64 pixels with masks into FOLDER, so that the time is that of the files and of the cache
and not of resampling, and for each COUNT starts a data set twice, each time in a new process: first with an empty
cache on disk, then with the one that is there. A line of JSON a start: seconds on the clock and of CPU time until all
items are ready, the memory in MB that the process allocated for them and cannot free, the milliseconds of an item that
is then read, and the size of the cache on disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data_prep.writers import nifti_gz_bytes

SIZE, DIFFERENT = 64, 1000


def generate(folder: Path, count: int) -> list[dict[str, Any]]:
    """Entries of ``count`` slices; after the first `DIFFERENT`, files are further names of earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(count):
        paths = {key: folder / f"{number:06}_{key}.nii.gz" for key in ("image", "label")}
        entries.append({**{key: str(path) for key, path in paths.items()}, "class": number % 3, "fold": 0})
        if all(path.is_file() for path in paths.values()):
            continue
        if number >= DIFFERENT:
            for key, path in paths.items():
                path.unlink(missing_ok=True)
                path.hardlink_to(folder / f"{number % DIFFERENT:06}_{key}.nii.gz")
            continue
        random = np.random.default_rng(number)
        image = (random.random((SIZE, SIZE)) * 4000).astype(np.int16)
        paths["image"].write_bytes(nifti_gz_bytes(image))
        paths["label"].write_bytes(nifti_gz_bytes((image > 3500).astype(np.uint8)))
    assert nib.load(entries[-1]["image"]).shape == (SIZE, SIZE, 1)
    return entries


def memory() -> float:
    """MB of this process, without files that it has mapped."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


def start(folder: str, count: int) -> None:
    from monai_kd.data import SliceDataset
    from monai_kd.transforms import slice_preprocessing

    entries = generate(Path(folder) / "slices", count)
    transform = slice_preprocessing(SIZE, label=True, mask_value=1, single_slices=True, track_meta=False)
    before, clock, cpu = memory(), time.perf_counter(), time.process_time()
    dataset = SliceDataset(entries, transform, cache_dir=Path(folder) / f"cache{count}", progress=False)
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    own = memory() - before
    chosen = np.random.default_rng(0).integers(0, count, 200)
    reading = time.process_time()
    for index in chosen:
        dataset[int(index)]
    item = (time.process_time() - reading) / len(chosen)
    found = {"slices": count, "seconds": clock, "cpu_seconds": cpu, "own_mb": own, "item_ms": 1000 * item}
    disk = sum(file.stat().st_size for file in (Path(folder) / f"cache{count}").rglob("*") if file.is_file())
    print(json.dumps({name: round(value, 3) for name, value in {**found, "cache_mb": disk / 1e6}.items()}))


def main(words: list[str]) -> int:
    if len(words) < 2 or not all(word.isdecimal() for word in words[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    for count in map(int, words[1:]):
        generate(Path(words[0]) / "slices", count)
        for _ in range(2):
            subprocess.run([sys.executable, __file__, "--start", words[0], str(count)], check=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        start(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
