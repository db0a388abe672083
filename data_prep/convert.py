"""A folder or archive of Figshare-style `.mat` files into a data set folder."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from data_prep import dataset, folds, journal, pool
from data_prep.limits import MAX_PIXELS, TooLarge
from data_prep.lock import FolderInUse
from data_prep.sources import UNREADABLE, Reader, Source, SourceError, reason_of, scan, slice_id, stamp_of
from data_prep.text import printable
from data_prep.worker import BAD, DUPLICATE, FOLDS, OK, Job, Row, convert_file, ended, output_files
from data_prep.writers import SUFFIXES, remove_temporary

logger = logging.getLogger(__name__)

LAYOUT = 1  # raised when the same input would give other files, so that old and new ones are not mixed
SLICES_PER_WORKER = 16  # starting a worker takes about as long as converting this many


class ConvertError(Exception):
    """The conversion could not be done, or with `strict`, not for every file."""


@dataclass(frozen=True)
class Summary:
    """What a conversion did.

    Attributes:
        datalist: path of `datalist.json`.
        converted: number of slices in the data set.
        reused: how many of them an earlier or interrupted run had converted already.
        bad: (file, reason) for each file left out.
        warnings: what should be known about the folds.
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
    """Converts every slice in `src` and writes `datalist.json` and `conversion.csv` (see docs/data.md).

    Interrupted and started again it goes on where it was; on a finished conversion it checks that nothing changed.

    Args:
        src: a folder (searched through), a `.zip` archive (archives in it too), or one `.mat` file.
        dst: data set folder, made if needed.
        format: "nifti" (lossless), "png" (8-bit) or "both".
        split: "patient": folds from `cvind.mat` where there is one, else by group of patients. "slice": slice by slice,
            which leaks patients between folds.
        workers: processes that files are read in; as many as cores when None. A damaged file that ends such a process
            is left out, as other bad files are.
        strict: raise when any file is left out, after converting the rest.
        progress: show a progress bar on stderr.
        folds_n: make so many folds and leave `cvind.mat` aside. None: as in `cvind.mat`, else 5.
        seed: order in which patients or slices are dealt to folds.
        max_pixels: of an image; files with more are left out, and found by their headers.

    Raises:
        ConvertError: nothing could be converted, `dst` holds something else, no worker could be started, the folds
            asked for are impossible, or files were left out and `strict` is set. What was converted is kept for the
            next try.
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
    earlier = _earlier(dst, sources, log)
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
        # Of several files with one number the first usable one is taken, whatever finishes first: the next is tried
        # only when the one before has turned out bad.
        while left:
            now = _first_of_each(left)
            jobs = _jobs(now, reader, dst, str(settings["format"]), earlier, rows, reused)
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
                rows[source.name] = _duplicate(source, taken[slice_id(source.name)], reader)
        bar.update(len(rows) - bar.n)

    ordered = [rows[source.name] for source in sources]
    cvind = _one_cvind(ordered, cvinds)
    slices = [row for row in ordered if row["status"] == OK]
    bad = [(row["file"], row["reason"]) for row in ordered if row["status"] in (BAD, DUPLICATE)]
    for row in (row for row in ordered if row["status"] != OK and row["file"] in earlier):
        _remove_outputs(dst, earlier[row["file"]]["id"], slices, str(settings["format"]))
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


def _earlier(dst: Path, sources: list[Source], log: journal.Journal) -> dict[str, Row]:
    """Rows of slices that an earlier run converted into `dst`, by file name."""
    # By number first: of several files with one number, only that which was converted last is in the output.
    last = {row["id"]: row for row in dataset.read_manifest(dst) if row["status"] == OK} | log.done
    rows = {row["file"]: row for row in last.values()}
    foreign = sorted(rows.keys() - {source.name for source in sources})
    if foreign:
        raise ConvertError(
            f"{dst} holds {len(foreign)} slices that are not in SRC ({foreign[0]}, for one): "
            "choose another folder, or delete this one"
        )
    return rows


def _jobs(
    sources: list[Source],
    reader: Reader,
    dst: Path,
    format: str,
    earlier: dict[str, Row],
    rows: dict[str, Row],
    reused: list[str],
) -> Iterator[Job]:
    """Jobs for what is still to do. Fills `rows` for files that need no work, and `reused` with names of kept ones."""
    for source in sources:
        identity = slice_id(source.name)
        old = earlier.get(source.name)
        try:
            stamp = _stamp(source, reader) if old else None
            if old and old["stamp"] == stamp and _complete(dst, identity, format):
                rows[source.name] = _as_converted(old)
                reused.append(source.name)
                continue
            content = Path(source.chain[0]) if len(source.chain) == 1 else reader.read(source.chain)
        except (*UNREADABLE, MemoryError) as error:
            rows[source.name] = _unreadable(source, error)
            continue
        yield Job(source.name, identity, content, dst, format, reader.max_pixels)


def _first_of_each(sources: list[Source]) -> list[Source]:
    """The first file of each number, in the order of `sources`."""
    firsts: dict[str, Source] = {}
    for source in sources:
        firsts.setdefault(slice_id(source.name), source)
    return list(firsts.values())


def _duplicate(source: Source, taken: Row, reader: Reader) -> Row:
    """Row of a file whose number a usable file before it has."""
    try:
        stamp = _stamp(source, reader)
    except (*UNREADABLE, MemoryError) as error:
        return _unreadable(source, error)
    found = f"slice {taken['id']} was already found in {taken['file']}"
    if stamp == taken["stamp"]:
        reason = f"{found}, with the same content: only that one is used"
    else:
        reason = f"{found}, with other content: only that one is used; give this file another name to keep both"
    return {"file": source.name, "status": DUPLICATE, "reason": reason, "stamp": stamp}


def _unreadable(source: Source, error: Exception) -> Row:
    reason = reason_of(error)
    if not isinstance(error, TooLarge | MemoryError):
        reason = f"cannot be read ({reason}): copy or download it again"
    return {"file": source.name, "status": BAD, "reason": reason}


def _stamp(source: Source, reader: Reader) -> str:
    return source.stamp or stamp_of(reader.read(source.chain))


def _complete(dst: Path, identity: str, format: str) -> bool:
    return all((dst / path).exists() for pair in output_files(identity, format) for path in pair)


def _as_converted(row: Row) -> Row:
    """The row without what folds added to it: folds are made anew each time."""
    notes = row.get("reason", "").split("; ")
    kept = "; ".join(note for note in notes if "cvind.mat" not in note)
    return {**row, "reason": kept}


def _remove_outputs(dst: Path, identity: str, slices: list[Row], format: str) -> None:
    """Takes away the files of a slice whose source has gone bad since: no list names them any more."""
    if all(row["id"] != identity for row in slices):
        for pair in output_files(identity, format):
            for path in pair:
                (dst / path).unlink(missing_ok=True)


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
