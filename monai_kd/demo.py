"""The whole way in some minutes: phantoms, teacher, student, evaluation, masks, pictures."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from data_prep.phantom import PhantomError, write_phantoms

from .bundle import find_bundle
from .bundle.data import phantom_folder
from .config import literal

__all__ = ["run_demo"]

NEW_SLICES, NEW_SEED = 12, 1


def _bundle(run_id: str, config: Path, **paths: Path) -> None:
    command = ["-m", "monai.bundle", "run", run_id, "--config_file", str(config)]
    shown = [f"--{name} {path}" for name, path in paths.items()]
    print(f"\n$ python {' '.join([*command, *shown])}\n", flush=True)
    for name, path in paths.items():
        # The command line is parsed like a config.
        command += [f"--{name}", literal(path)]
    # The long warning about the trust in configs is for configs of others.
    subprocess.run([sys.executable, "-W", "ignore", *command], check=True)


def run_demo(output_dir: Path, bundles: Path | None = None) -> int:
    """Run the commands of the README one after another on generated phantoms, and say what was made.

    The same bundles, with the same code, as for real slices; only without ``dataset_dir``, so that phantoms are made.

    Args:
        output_dir: folder for checkpoints, metrics, masks and pictures.
        bundles: folder of the bundles, see `find_bundle`.

    Returns:
        the exit code: that of the first command that failed; 1 where the new slices can't be written; or 0.
    """
    try:
        configs = find_bundle("seg_student", bundles) / "configs"
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    output_dir = Path(output_dir).expanduser().resolve()
    began = time.monotonic()
    model, new = output_dir / "model", output_dir / "new_slices"
    try:
        _bundle("training", configs / "train.json", output_dir=model)
        checkpoint = model / "model.pt"
        _bundle("evaluating", configs / "evaluate.json", checkpoint=checkpoint, output_dir=output_dir / "evaluation")
        write_phantoms(new, slices=NEW_SLICES, seed=NEW_SEED)
        found = {"checkpoint": checkpoint, "input": new, "output_dir": output_dir / "masks"}
        _bundle("inferring", configs / "inference.json", **found)
    except subprocess.CalledProcessError as error:
        print(f"\nThe command above failed with exit code {error.returncode}.", file=sys.stderr)
        return error.returncode
    except PhantomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"""
All of this is SYNTHETIC: phantoms, from {phantom_folder()}. Done in {(time.monotonic() - began) / 60:.1f} minutes.
  {model}/curves.png, overlays.png      how the student learnt
  {output_dir}/evaluation/metrics.json, dice.png, overlays.png      how good it is
  {output_dir}/masks/      masks and overlays of {NEW_SLICES} slices it had never seen, findings.csv"""
    )
    return 0
