"""``python -m monai_kd demo``: the whole workflow on phantoms in some minutes."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from data_prep.phantom import PhantomError, write_phantoms

from .bundle import checkpoint_of, find_bundle
from .bundle.data import phantom_folder

__all__ = ["run_demo"]

NEW_SLICES, NEW_SEED = 12, 1
DRAWN = (
    "SYNTHETIC: these slices are drawn (phantoms). The networks were trained on real ones, so that what they find here "
    "says nothing about how good they are."
)


def _bundle(run_id: str, config: Path, **options: Path) -> None:
    _python("monai.bundle", "run", run_id, "--config_file", str(config), **options)


def _python(module: str, *words: str, **options: Path | str) -> None:
    command = ["-m", module, *words]
    for name, path in options.items():
        # As a person types it: configs take paths of the command line literally, see `accept_overrides`.
        command += [f"--{name}", str(path)]
    print(f"\n$ python {shlex.join(command)}\n", flush=True)
    # Without MONAI's long warning about untrusted configs.
    subprocess.run([sys.executable, "-W", "ignore", *command], check=True)


def _carries_weights(bundles: Path | None) -> bool:
    """Whether there are networks for a report, see `monai_kd.bundle.released`."""
    try:
        return all(checkpoint_of(find_bundle(name, bundles) / "models") for name in ("seg_student", "cls_student"))
    except FileNotFoundError:
        return False


def run_demo(output_dir: Path, bundles: Path | None = None) -> int:
    """Run the commands of the README one after another on generated phantoms, and print a list of the output files.

    The bundles and their code are the same as for real slices, but without ``dataset_dir``, so that phantoms are made.
    Where both students' bundles carry weights, these report on the new slices at the end.

    Args:
        output_dir: folder for checkpoints, metrics, masks and pictures.
        bundles: folder of the bundles, see `find_bundle`.

    Returns:
        The exit code: 0; that of the first command that failed; 1 if the new slices can't be written; 2 if the bundles
        are not found.
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
        if reports := _carries_weights(bundles):
            where = {} if bundles is None else {"bundles": Path(bundles)}
            _python("monai_kd", "report", str(new), output_dir=output_dir / "report", note=DRAWN, **where)
    except subprocess.CalledProcessError as error:
        print(f"\nThe command above failed with exit code {error.returncode}.", file=sys.stderr)
        return error.returncode
    except PhantomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"""
All of this is SYNTHETIC: phantoms, from {phantom_folder()}. Done in {(time.monotonic() - began) / 60:.1f} minutes.
  {model}/curves.png, overlays.png      training of the student
  {output_dir}/evaluation/metrics.json, dice.png, overlays.png      evaluation of the student
  {output_dir}/masks/      masks and overlays of {NEW_SLICES} new slices, findings.csv"""
    )
    if reports:
        print(f"  {output_dir}/report/report.html      the same slices by the networks of the repository")
    return 0
