"""``python -m monai_kd``: tasks that take more than one bundle command."""

from __future__ import annotations

import argparse
import importlib
import io
import sys

from data_prep.arguments import CommandParser
from data_prep.paths import path_argument

# Command to its module and function.
PROGRAMS = {
    "demo": ("demo", "run_demo"),
    "report": ("report", "run_report"),
    "serve": ("serve", "run_serve"),
    "export": ("export", "run_export"),
    "pack": ("export.archive", "run_pack"),
    "taps": ("taps", "run_taps"),
    "label_app": ("label", "run_label_app"),
    "compare": ("evaluation.compare", "run_compare"),
    "precision": ("evaluation.precision", "run_precision"),
    "benchmark": ("benchmark", "run_benchmark"),
    "archive": ("archive", "run_archive"),
    "familiarity": ("bundle.familiarity", "run_familiarity"),
    "ensemble": ("bundle.ensemble", "run_ensemble"),
    "class_head": ("bundle.class_head", "run_class_head"),
}


def command_parser() -> argparse.ArgumentParser:
    """The parser of the command line, built without importing what the commands run."""
    parser = argparse.ArgumentParser(prog="python -m monai_kd", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=CommandParser)
    demo = commands.add_parser(
        "demo", help="train, distil, evaluate and segment on generated phantom slices, by the bundles, in some minutes"
    )
    demo.add_argument(
        "output_dir", nargs="?", default="demo", type=path_argument, help="folder for all output (default: demo)"
    )
    report = commands.add_parser("report", help="segment and classify new slices, with one HTML page of the results")
    report.add_argument("input", type=path_argument, help="a slice, a volume, or a folder of them")
    report.add_argument(
        "--output_dir", type=path_argument, required=True, help="for report.html, report.csv and the masks"
    )
    serve = commands.add_parser("serve", help="serve a web page on this computer that segments and classifies a slice")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, for this computer only)"
    )
    serve.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for a free one (default: 8000)")
    serve.add_argument("--max_upload_mb", type=float, default=100, metavar="MB", help="largest upload (default: 100)")
    report.add_argument("--note", default="", help="a sentence at the top of the page")
    for command in (report, serve):
        add = command.add_argument
        for what, name in (("segmentation", "seg_student"), ("classification", "cls_student")):
            help = f"of {name} (default: models/model.pt of the bundle)"
            add(f"--{what}", type=path_argument, metavar="CHECKPOINT", help=help)
        help = "on the probability of tumour, or expected_dice (default: the bundle's, 0.5)"
        add("--threshold", type=_threshold, help=help)
        add("--presence_threshold", type=float, help="on the presence score of a slice (default: the checkpoint's)")
        add("--presence_context", type=float, help="weight of the neighbours of a slice (default: the bundle's, 0.5)")
        add("--smallest_extent_mm", type=float, help="of a lesion across slices (default: the bundle's, 3)")
        add(
            "--temperature",
            metavar="T",
            help="of the classifier: a number, or temperature.json or metrics.json of an evaluation with --calibrate "
            "True (default: temperature.json beside the checkpoint, else 1)",
        )
        add("--device", help="cpu, cuda, cuda:1 … (default: a GPU if there is one)")
        for name, meaning in (
            ("amp", "half precision (default: where it is faster and was measured to be as good)"),
            ("judge_unfit", "judge images too that are unlike those of the training (default: False)"),
        ):
            add(f"--{name}", type=_switch, metavar="True|False", help=meaning)
    compare = commands.add_parser("compare", help="compare two networks on the same slices, metric by metric")
    compare.add_argument("first", type=path_argument, help="folder that evaluate.json wrote")
    compare.add_argument("second", type=path_argument, help="another one, of the same slices")
    compare.add_argument("--resamples", type=int, default=2000, help="of the bootstrap over patients (default: 2000)")
    compare.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    precision = commands.add_parser(
        "precision", help="record what half precision costs a network, by which inference chooses whether to use it"
    )
    precision.add_argument("float32", type=path_argument, help="folder that evaluate.json wrote with --amp False")
    precision.add_argument("half", type=path_argument, help="another one, of the same weights with --amp True")
    precision.add_argument(
        "--checkpoint", type=path_argument, help="whose settings.json it is added to (default: the evaluated one)"
    )
    taps = commands.add_parser("taps", help="list the modules of a network that can be tapped for a distillation")
    taps.add_argument(
        "configs", nargs="+", metavar="CONFIG", help="JSON or YAML with the network; later ones override earlier ones"
    )
    taps.add_argument(
        "--network", default="network_def", metavar="ID", help="id of the network in the config (default: network_def)"
    )
    taps.add_argument("--input_shape", metavar="C,H,W", help="of one image (default: from the config)")
    taps.add_argument(
        "--dataset_dir", type=path_argument, metavar="FOLDER", help="whose data list has the channels, for volumes.json"
    )
    taps.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    export = commands.add_parser(
        "export", help="write a folder with the network as ONNX, which runs without torch and MONAI"
    )
    _add_weights(export, own=True)
    export.add_argument("output_dir", type=path_argument, help="new folder")
    export.add_argument(
        "--int8",
        type=path_argument,
        metavar="SLICES",
        help="write 8-bit integers too, calibrated on these slices: a file, or a folder as for inference",
    )
    export.add_argument(
        "--max_dice_loss",
        type=float,
        default=0.005,
        metavar="D",
        help="what int8 may change: 1 - Dice of its masks with those in float32, for each class (default: 0.005)",
    )
    pack = commands.add_parser("pack", help="write a bundle with its weights as one archive, as the model zoo has them")
    _add_weights(pack, own=False)
    pack.add_argument("output_dir", type=path_argument, help="folder for NAME_vVERSION.zip")
    pack.add_argument("--name", help="of the bundle in the archive (default: that of its folder)")
    pack.add_argument(
        "--evaluation", type=path_argument, metavar="FOLDER", help="what evaluate.json wrote, for eval_metrics"
    )
    pack.add_argument(
        "--weights_url",
        metavar="URL",
        help="of the weights, or with / at its end of their folder: write NAME/ for the zoo",
    )
    label = commands.add_parser("label_app", help="write a folder that MONAI Label can serve")
    label.add_argument("folder", type=path_argument, help="new folder")
    either = "with neither, models/model.pt of both bundles, as far as they have it"
    label.add_argument("--segmentation", type=path_argument, metavar="CHECKPOINT", help=f"of seg_student; {either}")
    label.add_argument("--classification", type=path_argument, metavar="CHECKPOINT", help="of cls_student")
    label.add_argument(
        "--teacher", type=path_argument, metavar="CHECKPOINT", help="of seg_teacher, for distillation while labelling"
    )
    speed = commands.add_parser("benchmark", help="measure how fast this machine is, as ratios of times")
    speed.add_argument(
        "--only",
        nargs="+",
        metavar="GROUP",
        choices=("training", "resources", "data", "inference", "conversion"),
        help="what to measure, one or more (default: all)",
    )
    speed.add_argument("--json", dest="json_file", type=path_argument, metavar="FILE", help="write the table as JSON")
    speed.add_argument("--plot", dest="plot_file", type=path_argument, metavar="FILE", help="write a picture of it")
    speed.add_argument("--repeat", type=int, default=9, metavar="N", help="repetitions of each (default: 9)")
    speed.add_argument("--tiny", action="store_true", help="tiny networks: only to try whether the benchmark runs")
    speed.add_argument(
        "--checkpoint",
        type=path_argument,
        help="of seg_student, for inference (default: of a folder the bundle's weights, else random)",
    )
    speed.add_argument("--slices", type=path_argument, metavar="FOLDER", help="for inference (default: phantoms)")
    archive = commands.add_parser(
        "archive", help="segment or classify a large archive by several processes or a cluster"
    )
    _add_weights(archive, own=False)
    archive.add_argument("input", type=path_argument, help="folder of slices and volumes")
    archive.add_argument("output_dir", type=path_argument, help="new folder, or that of a run to continue")
    archive.add_argument("--shard_size", type=int, default=1000, metavar="N", help="images in a shard (default: 1000)")
    archive.add_argument("--workers", type=int, default=2, metavar="N", help="jobs at a time (default: 2)")
    archive.add_argument("--cluster", choices=("local", "slurm"), default="local", help="where they run")
    archive.add_argument(
        "--slurm", nargs="+", default=(), metavar="NAME=VALUE", help="options of sbatch, such as partition=gpu time=240"
    )
    archive.add_argument("--config", type=path_argument, help="JSON with other settings, laid over inference.json")
    archive.add_argument("--device", help="cpu, cuda … (default: a GPU if there is one)")
    familiar = commands.add_parser(
        "familiarity", help="learn what training slices look like to a network, by which it recognises other input"
    )
    _add_weights(familiar, own=True)
    familiar.add_argument("dataset_dir", type=path_argument, help="the data set that it was trained on")
    familiar.add_argument("--device", help="cpu, cuda … (default: a GPU if there is one)")
    ensemble = commands.add_parser("ensemble", help="write checkpoints of several networks as that of one ensemble")
    ensemble.add_argument(
        "checkpoints", type=path_argument, nargs="+", metavar="CHECKPOINT", help="two or more, of the same task"
    )
    ensemble.add_argument("output_dir", type=path_argument, help="new folder, for model.pt and settings.json")
    head = commands.add_parser("class_head", help="write the classifier within a network for both tasks by itself")
    head.add_argument("checkpoint", type=path_argument, help="of a segmentation that also gives classes")
    head.add_argument("output_dir", type=path_argument, help="new folder, for model.pt and settings.json")
    for command in (demo, report, serve, export, pack, label, speed, archive, familiar):
        command.add_argument(
            "--bundles", type=path_argument, metavar="FOLDER", help="default: bundles/ of this checkout"
        )
    return parser


def _threshold(text: str) -> float | str:
    """A number; another text is checked with the settings of the bundle."""
    try:
        return float(text)
    except ValueError:
        return text


def _switch(text: str) -> bool:
    """As the commands of the bundles take it."""
    if text not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"must be True or False, got '{text}'")
    return text == "True"


def _add_weights(command: argparse.ArgumentParser, own: bool) -> None:
    """A bundle and a checkpoint; with ``own`` the checkpoint may be left out."""
    command.add_argument("bundle", type=path_argument, help="name of a bundle, such as seg_student, or its folder")
    default = " (default: its models/model.pt)" if own else ""
    command.add_argument(
        "checkpoint", type=path_argument, nargs="?" if own else None, help=f"weights of its network{default}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: that of its function, or 130 after an interrupt.

    Invalid options end the process with exit code 2.
    """
    # A terminal or a file that is not UTF-8 gets an escape in place of a letter that it does not have.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    given = vars(command_parser().parse_args(arguments))
    # Imported when needed: torch takes seconds to import, and --help should not.
    module, function = PROGRAMS[given.pop("command")]
    try:
        config = importlib.import_module("monai_kd.config")
        config.heed_interrupts()
        config.keep_freed_memory()
        return getattr(importlib.import_module(f"monai_kd.{module}"), function)(**given)
    except KeyboardInterrupt:
        print("\nstopped; files that were finished before are kept, and none is half-written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
