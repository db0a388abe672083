"""Convert raw slices into a data set folder, cut heads without a tumour into slices, or generate synthetic slices."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter

from data_prep.arguments import CommandParser
from data_prep.benchmark import benchmark
from data_prep.convert import ConvertError, Summary, convert
from data_prep.disk import WriteError
from data_prep.limits import MAX_PIXELS
from data_prep.negatives import STEP_MM, THICKNESS_MM, VIEWS, NegativesError, write_negatives
from data_prep.paths import path_argument
from data_prep.phantom import MARKER, PhantomError, write_phantoms
from data_prep.sources import SourceError
from data_prep.text import printable
from data_prep.writers import SUFFIXES


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 for success, 1 for a failed conversion, 130 after an interrupt.

    Invalid options end the process with exit code 2.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ConvertError, NegativesError, PhantomError, SourceError, WriteError) as error:
        # Escaped line by line, because a list of files has one line per file.
        print("\n".join(map(printable, f"error: {error}".split("\n"))), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        resumed = options.command is _figshare
        how = "run the same command again to go on" if resumed else "what it has written is not complete: delete it"
        print(f"\nstopped; {how}", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    figshare = commands.add_parser("figshare", help="convert .mat slices into a data set folder")
    figshare.set_defaults(command=_figshare)
    figshare.add_argument(
        "src", type=path_argument, help="folder, .zip archive (archives in archives too), or one .mat file"
    )
    figshare.add_argument("dst", type=path_argument, help="data set folder to write")
    figshare.add_argument("--format", choices=SUFFIXES, default="nifti", help="default: nifti (lossless)")
    figshare.add_argument(
        "--split",
        choices=("patient", "slice"),
        default="patient",
        help="patient (default): no patient is in two folds; slice: leaks patients between folds",
    )
    figshare.add_argument(
        "--folds-n", type=int, help="number of folds; cvind.mat is then ignored (default: as in cvind.mat, else 5)"
    )
    figshare.add_argument("--seed", type=int, default=0, help="seed of the assignment of patients to folds")
    figshare.add_argument("--workers", type=_count, help="processes (default: all cores)")
    figshare.add_argument(
        "--max_pixels",
        type=_count,
        default=MAX_PIXELS,
        help=f"leave out images whose header announces more pixels (default: {MAX_PIXELS})",
    )
    figshare.add_argument("--strict", action="store_true", help="exit with an error when any file is left out")

    negatives = commands.add_parser("negatives", help="cut volumes of heads without a tumour into slices")
    negatives.set_defaults(command=_negatives)
    negatives.add_argument("dst", type=path_argument, help="data set folder to write, new or empty")
    negatives.add_argument(
        "volumes", type=path_argument, nargs="+", help="NIfTI files of heads without a tumour, which is not checked"
    )
    negatives.add_argument("--views", choices=VIEWS, nargs="+", default=list(VIEWS), help="default: all")
    negatives.add_argument(
        "--thickness_mm", type=float, default=THICKNESS_MM, help=f"of a slice (default: {THICKNESS_MM:g})"
    )
    negatives.add_argument("--step_mm", type=float, default=STEP_MM, help=f"between slices (default: {STEP_MM:g})")
    negatives.add_argument("--inverted", action="store_true", help="each slice with inverted grey values, too")

    phantom = commands.add_parser("phantom", help="write SYNTHETIC slices as .mat files, to try the tools with")
    phantom.set_defaults(command=_phantom)
    phantom.add_argument("dst", type=path_argument, help="folder for the .mat files, new or empty")
    phantom.add_argument("--slices", type=_count, default=240, help="default: 240, four to a patient")
    phantom.add_argument("--seed", type=int, default=0, help="seed of the heads and tumours (default: 0)")
    phantom.add_argument("--size", type=_count, default=256, help="rows and columns in pixels (default: 256)")
    phantom.add_argument("--workers", type=_count, help="processes (default: all cores)")

    speed = commands.add_parser("benchmark", help="measure conversion against a plain h5py and nibabel loop")
    speed.set_defaults(command=_benchmark)
    speed.add_argument("src", type=path_argument, help="folder of unpacked v7.3 .mat slices")
    speed.add_argument("--workers", type=_count, help="processes (default: all cores)")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _figshare(options: argparse.Namespace) -> None:
    summary = convert(
        options.src,
        options.dst,
        format=options.format,
        split=options.split,
        workers=options.workers,
        strict=options.strict,
        folds_n=options.folds_n,
        seed=options.seed,
        max_pixels=options.max_pixels,
    )
    _print_summary(summary)


def _negatives(options: argparse.Namespace) -> None:
    datalist = write_negatives(
        options.dst, options.volumes, options.views, options.thickness_mm, options.step_mm, options.inverted
    )
    names = [path.name.removesuffix(".nii.gz").removesuffix("_inverted") for path in datalist.parent.glob("images/*")]
    views = Counter(name.split("_")[-2] for name in names)
    volumes = "1 volume" if len(options.volumes) == 1 else f"{len(options.volumes)} volumes"
    counts = ", ".join(f"{view} {views[view]}" for view in options.views)
    print(f"{views.total()} slices of {volumes}, taken as without a tumour ({counts}) -> {datalist}")


def _phantom(options: argparse.Namespace) -> None:
    print("writing SYNTHETIC phantom slices: no patient is in them, results on them say nothing about real images")
    write_phantoms(options.dst, options.slices, options.seed, options.size, options.workers)
    print(f"{options.slices} SYNTHETIC slices -> {options.dst} (see {MARKER} there)")


def _benchmark(options: argparse.Namespace) -> None:
    print(benchmark(options.src, options.workers))


def _print_summary(summary: Summary) -> None:
    what = "SYNTHETIC phantom slices" if summary.synthetic else "slices"
    again = f" ({summary.reused} of them were there already)" if summary.reused else ""
    print(f"{summary.converted} {what}{again} -> {summary.datalist}")
    print(f"folds {summary.how_folds}: {', '.join(map(str, summary.fold_sizes))} slices")
    if summary.bad:
        print(f"{len(summary.bad)} files left out:", file=sys.stderr)
        for file, reason in summary.bad:
            print(printable(f"  {file}: {reason}"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
