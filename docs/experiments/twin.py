"""Keep the twin of released weights in this repository, in half precision; see docs/study.md.

    python docs/experiments/twin.py seg_student RUN/model.pt

writes docs/experiments/twins/seg_student/model.pt, and settings.json without paths of this computer. A twin is a
network of the recipe of the released weights that was trained without one fold: what is said of these is measured
with it. It has no operating point, which an evaluation chooses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gpu_files import half
from release import packed_files

from monai_kd.config.errors import one_line_errors
from monai_kd.io import read_checkpoint
from monai_kd.io.trained import MEASURED, save_trained

ROOT = Path(__file__).resolve().parents[2]


def keep_twin(name: str, checkpoint: str) -> Path:
    """Write the twin of the bundle ``name``.

    Raises:
        FileNotFoundError, ValueError: see `pack_bundle`; or it has seen all folds.
    """
    settings = json.loads(packed_files(ROOT / "bundles" / name, checkpoint)["models/settings.json"])
    if settings.get("fold") is None:
        raise ValueError(f"{checkpoint} was trained on all folds: nothing can be measured with it.")
    twin = ROOT / "docs" / "experiments" / "twins" / name / "model.pt"
    twin.parent.mkdir(parents=True, exist_ok=True)
    # Of an earlier twin, nothing is to be remembered.
    twin.unlink(missing_ok=True)
    # What was measured, was so before they were rounded.
    kept = {key: value for key, value in settings.items() if key not in MEASURED}
    save_trained(half(read_checkpoint(checkpoint)), twin, kept)
    return twin


@one_line_errors
def main(words: list[str]) -> int:
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    twin = keep_twin(*words)
    print(f"{twin}: {twin.stat().st_size / 2**20:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
