"""``python -m monai_kd report``: one command from slices to a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from ..bundle import find_bundle
from ..inference import BundlePredictor, InputFiles
from ..inference.file_report import printable
from .checkpoint import describe_checkpoint
from .examine import Examined, examine
from .page import write_page, write_table
from .temperature import read_temperature

__all__ = ["run_report"]

BUNDLES = {"segmentation": "seg_student", "classification": "cls_student"}


def run_report(
    input: Path,
    output_dir: Path,
    segmentation: Path,
    classification: Path,
    threshold: float | None = None,
    temperature: str | None = None,
    device: str | None = None,
    bundles: Path | None = None,
) -> int:
    """Segment and classify slices with both students; write masks, ``report.csv`` and ``report.html``.

    Args:
        input: file or folder.
        output_dir: folder for all that is written.
        segmentation, classification: checkpoints of seg_student and cls_student.
        threshold: on the probability of tumour; ``None`` for the bundle's.
        temperature: that the classifier's logits are divided by, see `read_temperature`; ``None`` for the bundle's.
        device: ``None`` for the bundle's choice.
        bundles: folder of the bundles, see `find_bundle`.

    Returns:
        the exit code: 0; 1 when no file could be used; 2 when nothing could be begun, after saying why.
    """
    try:
        inputs = InputFiles(input, output_dir)
        return _report(inputs, segmentation, classification, threshold, temperature, device, bundles)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _report(
    inputs: InputFiles,
    segmentation: Path,
    classification: Path,
    threshold: float | None,
    temperature: str | None,
    device: str | None,
    bundles: Path | None,
) -> int:
    folders = {what: find_bundle(name, bundles) for what, name in BUNDLES.items()}
    count = len(inputs.images)
    shared = {} if device is None else {"device": _device(device)}
    cut = {} if threshold is None else {"threshold": threshold}
    softened = {} if temperature is None else {"temperature": read_temperature(temperature, classification)}
    segment = _predictor("segmentation", segmentation, folders, **shared, **cut)
    classify = _predictor("classification", classification, folders, **shared, **softened)
    checkpoints = {
        "segmentation": describe_checkpoint(segmentation),
        "classification": describe_checkpoint(classification),
    }
    for what, facts in checkpoints.items():
        if facts.synthetic:
            print(f"The {what} network was trained on SYNTHETIC phantoms: it knows nothing of real slices.")
    inputs.output_dir.mkdir(parents=True, exist_ok=True)
    names, files = classify.value("class_names"), list[Examined]()
    table, page = inputs.output_dir / "report.csv", inputs.output_dir / "report.html"
    try:
        for number, file in enumerate(examine(inputs, segment, classify), 1):
            files.append(file)
            where = f"[{number}/{count}] " if number <= count else ""
            print(printable(f"{where}{file.row['file']}: {file.said}"), flush=True)
    finally:
        # What was found before a full disk, say, stays known.
        if files:
            write_table(files, names, table)
    write_page(files, checkpoints, segment.value("threshold"), classify.value("temperature"), page)
    used = sum(file.row["status"] == "ok" for file in files)
    if used == 0:
        print(f"error: none of the {count} files could be used; {page} says why.", file=sys.stderr)
        return 1
    print(f"{used} of {count} files, not for diagnosis: {page}, {table}")
    return 0


def _device(name: str) -> str:
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        # CUDA's own message is followed by lines of advice to developers.
        raise ValueError(f"--device {name} can't be used here: {str(error).splitlines()[0]}") from error
    return name


def _predictor(what: str, checkpoint: Path, folders: dict[str, Path], **overrides: Any) -> BundlePredictor:
    try:
        return BundlePredictor(folders[what], checkpoint, **overrides)
    except ValueError as error:
        for other, folder in folders.items():
            if other != what and _fits(folder, checkpoint):
                raise ValueError(
                    f"--{what}: {checkpoint} is a checkpoint for --{other} ({folder.name}); give one of "
                    f"{folders[what].name}."
                ) from error
        raise ValueError(f"--{what}: {error}") from error


def _fits(bundle: Path, checkpoint: Path) -> bool:
    try:
        BundlePredictor(bundle, checkpoint, device="cpu")
    except (ValueError, OSError, RuntimeError):
        return False
    return True
