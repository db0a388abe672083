"""Convert a folder or archive of Figshare-style `.mat` files into a data set folder."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from data_prep import dataset, folds, journal, pool, resume
from data_prep.limits import MAX_PIXELS
from data_prep.lock import FolderInUse
from data_prep.sources import Reader, Source, SourceError, scan, slice_id
from data_prep.text import printable
from data_prep.worker import BAD, DUPLICATE, FOLDS, OK, Row, convert_file, ended
from data_prep.writers import SUFFIXES, remove_temporary

logger = logging.getLogger(__name__)

LAYOUT = 1  # increased when the same input would give other files, so that old and new ones are not mixed
SLICES_PER_WORKER = 16  # starting a worker takes about as long as converting this many


class ConvertError(Exception):
    """The conversion failed, or with `strict`, a file was left out."""


@dataclass(frozen=True)
class Summary:
    """The result of a conversion.

    Attributes:
        datalist: path of `datalist.json`.
        converted: number of slices in the data set.
        reused: how many of them an earlier or interrupted run had converted already.
        bad: (file, reason) for each file left out.
        warnings: about the folds.
        fold_sizes: number of slices in fold 0, 1, ...
        how_folds: "cvind.mat", "by group" or "by slice (leaks patients)".
        synthetic: the slices are phantoms.
    """

    datalist: Path
    converted: int
    reused: int
    bad: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    fold_sizes: list[int] = field(default_factory=list)
    how_folds: str = ""
    synthetic: bool = False


def convert(
    src: str | Path,
    dst: str | Path,
    format: str = "nifti",
    split: str = "patient",
    workers: int | None = None,
    strict: bool = False,
    progress: bool = True,
    folds_n: int | None = None,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Summary:
    """Convert every slice in `src` and write `datalist.json` and `conversion.csv` (see docs/data.md).

    Called again, it continues an interrupted conversion, and converts only files that have changed since.

    Args:
        src: a folder (searched through), a `.zip` archive (archives in it too), or one `.mat` file.
        dst: data set folder, made if needed.
        format: "nifti" (lossless), "png" (8-bit) or "both".
        split: "patient": folds from `cvind.mat` where there is one, else by group of patients. "slice": slice by slice,
            which leaks patients between folds.
        workers: number of worker processes; None for the number of cores. A damaged file that ends its worker is left
            out, as other bad files are.
        strict: raise when any file is left out, after converting the rest.
        progress: show a progress bar on stderr.
        folds_n: number of folds; `cvind.mat` is then ignored. None: as in `cvind.mat`, else 5.
        seed: of the random assignment of patients or slices to folds.
        max_pixels: of an image; files whose header announces more are left out.

    Raises:
        ConvertError: nothing could be converted, `dst` holds other files, no worker could be started, the folds can't
            be made, or files were left out and `strict` is set. Converted slices are kept for the next run.
    """
    src, dst = Path(src), Path(dst)
    if format not in SUFFIXES:
        raise ConvertError(f"format must be one of {', '.join(SUFFIXES)}, not {format!r}")
    if split not in ("patient", "slice"):
        raise ConvertError(f"split must be patient or slice, not {split!r}")
    if dst.exists() and not dst.is_dir():
        raise ConvertError(f"{dst} is a file; a folder is needed")
    settings: dict[str, object] = {"format": format, "layout": LAYOUT}
    try:
        old_settings = dataset.read_settings(dst)
        if old_settings is not None:
            journal.check_settings(old_settings, settings, dst)
        sources = scan(src, max_pixels)
        for folder in ("images", "labels"):
            (dst / folder).mkdir(parents=True, exist_ok=True)
        with journal.open_journal(dst, settings) as log:
            return _convert(sources, dst, log, settings, split, workers, strict, progress, folds_n, seed, max_pixels)
    except (SourceError, dataset.DatasetError, journal.JournalError, folds.FoldError, FolderInUse) as error:
        raise ConvertError(str(error)) from None
    except pool.WorkerDied as error:
        raise ConvertError(f"{error}: is there enough memory?") from None
    except OSError as error:
        raise ConvertError(f"cannot write to {dst}: {error}") from error


def _convert(
    sources: list[Source],
    dst: Path,
    log: journal.Journal,
    settings: dict[str, object],
    split: str,
    workers: int | None,
    strict: bool,
    progress: bool,
    folds_n: int | None,
    seed: int,
    max_pixels: int,
) -> Summary:
    earlier = resume.converted_earlier(dst, sources, log)
    for folder in (dst, dst / "images", dst / "labels"):
        remove_temporary(folder, locked=True)

    rows: dict[str, Row] = {
        source.name: {"file": source.name, "status": BAD, "reason": source.problem}
        for source in sources
        if source.problem is not None
    }
    left = [source for source in sources if source.problem is None]
    taken: dict[str, Row] = {}
    cvinds: dict[str, tuple[float, ...]] = {}
    reused: list[str] = []
    workers = workers or pool.available_cores()
    with (
        Reader(max_pixels) as reader,
        tqdm(total=len(sources), unit="slice", disable=not progress, mininterval=0.5) as bar,
    ):
        # Of several files with the same number, the first usable one in the order of the sources is taken, not the
        # first to finish: the next file is tried only when the one before has failed.
        while left:
            now = resume.first_of_each(left)
            jobs = resume.jobs(now, reader, dst, str(settings["format"]), earlier, rows, reused)
            processes = min(workers, -(-len(now) // SLICES_PER_WORKER))
            for done in pool.run(convert_file, jobs, processes, ended, lambda job: job.large):
                row = done.row
                rows[row["file"]] = row
                if row["status"] == OK:
                    log.add(row)
                elif done.cvind is not None:
                    cvinds[row["file"]] = done.cvind
                bar.update(len(rows) - bar.n)
            taken = {row["id"]: row for row in rows.values() if row["status"] == OK}
            left = [source for source in left if source.name not in rows and slice_id(source.name) not in taken]
        for source in sources:
            if source.name not in rows:
                rows[source.name] = resume.duplicate(source, taken[slice_id(source.name)], reader)
        bar.update(len(rows) - bar.n)

    ordered = [rows[source.name] for source in sources]
    cvind = _one_cvind(ordered, cvinds)
    slices = [row for row in ordered if row["status"] == OK]
    bad = [(row["file"], row["reason"]) for row in ordered if row["status"] in (BAD, DUPLICATE)]
    for row in (row for row in ordered if row["file"] in earlier):
        old = earlier[row["file"]]["id"]
        if row["status"] != OK or row["id"] != old:
            resume.remove_outputs(dst, old, slices, str(settings["format"]))
    synthetic = {row["synthetic"] for row in slices}
    if len(synthetic) > 1:
        raise ConvertError("SRC mixes synthetic phantoms with real slices: convert them into separate folders")
    if not slices:
        dataset.write_manifest(dst, ordered)
        log.finish()
        raise ConvertError(f"nothing was converted, none of {len(ordered)} files is a usable slice:\n{_listed(bad)}")

    made = _folds(slices, cvind, split, folds_n, seed)
    for i, (row, fold) in enumerate(zip(slices, made.folds, strict=True)):
        row["fold"] = str(fold)
        if i in made.notes:
            row["reason"] = "; ".join(filter(None, (row["reason"], made.notes[i])))
    for warning in made.warnings:
        logger.warning("%s", printable(warning))
    dataset.write_manifest(dst, ordered)
    datalist = dataset.write_datalists(dst, ordered, settings, made.how)
    log.finish()
    if strict and bad:
        raise ConvertError(f"{len(bad)} of {len(ordered)} files were left out (--strict):\n{_listed(bad)}")
    sizes = Counter(made.folds)
    return Summary(
        datalist=datalist,
        converted=len(slices),
        reused=len(reused),
        bad=bad,
        warnings=made.warnings,
        fold_sizes=[sizes[fold] for fold in range(max(sizes) + 1)],
        how_folds=made.how,
        synthetic=synthetic == {"yes"},
    )


def _one_cvind(rows: list[Row], cvinds: dict[str, tuple[float, ...]]) -> tuple[float, ...] | None:
    first: str | None = None
    for row in rows:
        if row["status"] != FOLDS:
            continue
        if first is None:
            first = row["file"]
        elif cvinds[row["file"]] != cvinds[first]:
            row["status"], row["reason"] = BAD, f"other fold numbers than in {first}: those are used"
    return cvinds[first] if first is not None else None


def _folds(
    slices: list[Row], cvind: tuple[float, ...] | None, split: str, folds_n: int | None, seed: int
) -> folds.Folds:
    labels = [int(row["label"]) for row in slices]
    groups = [row["group"] for row in slices]
    if split == "slice":
        made = folds.folds_by_slice(labels, folds_n, seed)
    elif cvind is not None and folds_n is None:
        numbers = [int(row["id"]) if re.fullmatch("[0-9]+", row["id"]) else None for row in slices]
        return folds.folds_from_cvind(numbers, groups, labels, cvind, seed)
    else:
        made = folds.folds_by_group(groups, labels, folds_n, seed)
    if cvind is not None:
        made.warnings.append("the folds in cvind.mat are not used")
    return made


def _listed(bad: list[tuple[str, str]], most: int = 20) -> str:
    lines = [printable(f"  {file}: {reason}") for file, reason in bad[:most]]
    return "\n".join(lines + ([f"  and {len(bad) - most} more, see conversion.csv"] if len(bad) > most else []))
