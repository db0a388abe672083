"""Run one training of the study by its name, and evaluate it; see docs/study.md.

    python docs/experiments/study.py seg hybrid alone fold=4 seed=0 data=DATA runs=RUNS
    python docs/experiments/study.py seg lite0 distilled fold=4 seed=0 data=DATA runs=RUNS
    python docs/experiments/study.py cls lite0 msgff fold=all seed=1 data=DATA runs=RUNS

The first three words name the task (seg, cls), the network, and how it is trained: alone, distilled, or, for classes,
msgff. A run has a folder RUNS/seg_lite0_distilled_fold4_seed0, to which values that differ from the protocol are added,
such as _rate0.0005. A run that was interrupted continues; one that is complete is only evaluated, once.

    name=value    default       meaning
    data          (needed)      data set folder
    runs          runs          folder of the runs
    fold          4             fold that is not trained on, 1 to 4, or `all` to train on all of them
    seed          0
    epochs        by task       seg 40, cls 40
    size          by task       seg 256, cls 224, in pixels
    batch         8 (cls 16)
    rate          by network    learning rate
    recipe        by how        recipe of the student's train.json
    logit         of the recipe   weight of the term `logit` in the recipe
    temperature   of the recipe
    labels        1             share of the training patients whose labels are used (labelled_share)
    negatives     0             share of the training slices whose tumour is taken out (negative_probability)
    heads         -             folder of slices without a tumour (negatives_dir), see docs/examinations.md
    start         -             weights to train further from, with one epoch of warm-up
    config        -             JSON of settings laid over all others, such as fixed_target.json
    batch_dice    0             seg: 1 computes Dice over the batch instead of slice by slice
    teacher       its run       checkpoint; by default of the hybrid with the same fold, epochs, size and batch, seed 0
    threads       1             OMP_NUM_THREADS
    workers       0             processes that load slices
    minutes       -             stop the training after this time, with exit code 75; the same command continues
    evaluate      1             0: only train
    device        -             cuda or cpu
    show          0             1: print the commands without running them
"""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "experiments"
# Network: its bundle, the config laid over it, and the learning rate.
NETWORKS = {
    ("seg", "hybrid"): ("seg_teacher", "teachers/timm_hybrid.json", 0.0005),
    ("seg", "lite0"): ("seg_student", "students/timm_lite0_pretrained.json", 0.001),
    ("seg", "both"): ("seg_student", "students/timm_lite0_classes_pretrained.json", 0.001),
    ("seg", "small"): ("seg_student", "students/timm_lite0_small_pretrained.json", 0.001),
    ("seg", "tiny"): ("seg_student", str(HERE / "tiny.json"), 0.001),
    ("seg", "unet"): ("seg_student", None, 0.001),
    ("cls", "hybrid"): ("cls_teacher", "teachers/lite2_dinov2.json", 0.0003),
    ("cls", "lite0"): ("cls_student", "students/lite0_pretrained.json", 0.0005),
    ("cls", "b0"): ("cls_student", None, 0.001),
}
RECIPES = {
    "seg": {"alone": "none", "distilled": "kd_plus_plus"},
    "cls": {"alone": "none", "distilled": "kd", "msgff": "msgff"},
}
DEFAULTS = {
    "seg": {"epochs": "40", "size": "256", "batch": "8"},
    "cls": {"epochs": "40", "size": "224", "batch": "16"},
}
COMMON = {
    **{"data": "", "runs": "runs", "fold": "4", "seed": "0"},
    **{"rate": "", "recipe": "", "logit": "", "temperature": "", "teacher": ""},
    **{"negatives": "0", "batch_dice": "0", "labels": "1"},
    **{"heads": "", "start": "", "config": ""},
    **{"threads": "1", "workers": "0", "minutes": "", "evaluate": "1", "device": "", "show": "0"},
}
# Values that are part of the name of a run where they differ from the protocol.
NAMED = ("epochs", "size", "batch", "rate", "recipe", "logit", "temperature", "negatives", "batch_dice", "labels")
# By slice, of the operating point.
SPECIFICITY = "0.9"
UNFINISHED = 75


class Run:
    """One run: its folder and its commands.

    Args:
        task, network, how: the name, see above.
        given: values by their names, as text.

    Raises:
        ValueError: there is no such run or value.
    """

    def __init__(self, task: str, network: str, how: str, given: Mapping[str, str]) -> None:
        if (task, network) not in NETWORKS:
            raise ValueError(f"there is no network {task} {network}: {', '.join(map(' '.join, NETWORKS))}.")
        self.task, self.network, self.how = task, network, how
        self.bundle, self.overlay, rate = NETWORKS[task, network]
        self.taught = self.bundle.endswith("student")
        allowed = list(RECIPES[task]) if self.taught else ["alone"]
        if how not in allowed:
            raise ValueError(f"{task} {network} is trained {' or '.join(allowed)}, not '{how}'.")
        plan = {**COMMON, **DEFAULTS[task], "rate": str(rate)}
        if self.taught:
            plan["recipe"] = RECIPES[task][how]
        if unknown := sorted(set(given) - set(plan)):
            raise ValueError(f"there is no value {', '.join(unknown)}: {', '.join(plan)}.")
        self.values = {**plan, **given}
        if not self.values["data"]:
            raise ValueError("give data=FOLDER, a data set folder with datalist.json.")
        if self.values["fold"] not in ("1", "2", "3", "4", "all"):
            raise ValueError(f"fold must be 1, 2, 3, 4 or all, got '{self.values['fold']}'.")
        varied = [f"_{name}{self.values[name]}" for name in NAMED if self.values[name] != plan.get(name, "")]
        varied += [f"_{Path(self.values['config']).stem}"] if self.values["config"] else []
        varied += ["_heads"] if self.values["heads"] else []
        if self.values["start"]:
            # By the name of the run that it starts from, wherever that lies.
            origin = Path(self.values["start"]).expanduser().absolute().parent.name
            varied.append(f"_start{zlib.crc32(origin.encode()):08x}")
        name = f"{task}_{network}_{how}_fold{self.values['fold']}_seed{self.values['seed']}{''.join(varied)}"
        self.folder = Path(self.values["runs"]).expanduser() / name

    @classmethod
    def named(cls, words: Sequence[str]) -> Run:
        """The run of the words of a command line."""
        given = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        if len(names) != 3:
            raise ValueError(f"a run has three names, such as seg lite0 alone, got '{' '.join(names)}'.")
        return cls(*names, given)

    def teacher_run(self) -> Run | None:
        """The run whose network teaches; None for a run alone, and where a file was given."""
        if not self.taught or self.how == "alone" or self.values["teacher"]:
            return None
        same = ("data", "runs", "fold", "epochs", "size", "batch", "negatives", "batch_dice", "labels")
        return Run(self.task, "hybrid", "alone", {name: self.values[name] for name in same})

    def teacher_path(self) -> Path:
        """Where the checkpoint that teaches a student is, or will be."""
        run = self.teacher_run()
        return Path(self.values["teacher"]).expanduser() if run is None else run.folder / "model.pt"

    def teacher(self) -> Path:
        """The checkpoint that teaches.

        Raises:
            ValueError: it is not there, or its training has not come to its end.
        """
        run, path = self.teacher_run(), self.teacher_path()
        if self.values["show"] == "0":
            if not path.is_file():
                raise ValueError(f"there is no teacher {path}: train it first, or give teacher=FILE.")
            if run is not None and not run.trained():
                raise ValueError(
                    f"the teacher {path} is not trained to the end: continue it first, or give teacher=FILE."
                )
        return path

    def training(self) -> list[str]:
        """The command that trains, or continues."""
        configs = ROOT / "bundles" / self.bundle / "configs"
        files = [configs / "train.json", *([configs / self.overlay] if self.overlay else []), HERE / "nnunet.json"]
        files.append(HERE / "last_epoch.json")
        files += [HERE / "all_folds.json"] if self.values["fold"] == "all" else []
        files += [HERE / "nnunet_cls.json"] if self.task == "cls" else []
        files += [Path(self.values["config"]).expanduser()] if self.values["config"] else []
        epochs = int(self.values["epochs"])
        values = {
            **{"dataset_dir": self.values["data"], "output_dir": str(self.folder), "seed": self.values["seed"]},
            **{"epochs": self.values["epochs"], "image_size": self.values["size"], "batch_size": self.values["batch"]},
            **{"learning_rate": self.values["rate"], "workers": self.values["workers"], "resume": "True"},
        }
        # The last epoch, which is kept, must be validated.
        values["val_interval"] = str(next(n for n in range(max(5, epochs // 10), 0, -1) if epochs % n == 0))
        values |= {"negative_probability": self.values["negatives"], "labelled_share": self.values["labels"]}
        if self.values["heads"]:
            values["negatives_dir"] = self.values["heads"]
        if self.values["start"]:
            # Of the bundles, seg_student alone has this value.
            files += [HERE / "start.json"] if self.bundle != "seg_student" else []
            values |= {"init_checkpoint": self.values["start"], "warmup_epochs": "1"}
        if self.task == "seg":
            if self.network == "hybrid" and self.values["size"] != DEFAULTS["seg"]["size"]:
                # The transformer sees the slice in seven eighths of its size, as 224 are of 256: patches of 14 pixels.
                values["network_def#vit_image_size"] = str(int(self.values["size"]) * 7 // 8)
            values["batch_dice"] = str(self.values["batch_dice"] == "1")
        elif self.values["batch_dice"] != "0":
            raise ValueError("batch_dice is of seg.")
        if self.values["fold"] != "all":
            values["fold"] = str(int(self.values["fold"]) - 1)
        if self.taught:
            values["recipe"] = self.values["recipe"]
            if self.values["logit"]:
                values[f"recipes#{self.values['recipe']}#logit"] = self.values["logit"]
            if self.values["temperature"]:
                values["temperature"] = self.values["temperature"]
            if self.how != "alone":
                values["teacher_checkpoint"] = str(self.teacher())
        return self._command("training", files, values)

    def evaluations(self) -> Iterator[tuple[Path, list[str]]]:
        """Folder and command of each evaluation on the fold that was not trained on.

        As it is, and mirrored; of a segmentation, and of a classifier that was trained with negatives, also with the
        tumours taken out of half of the slices, which chooses the operating point of a segmentation.
        """
        if self.values["fold"] == "all" or self.values["evaluate"] == "0":
            return
        kinds = {"evaluation": {"mirror": "[]"}, "evaluation_mirrored": {"mirror": "[0]"}}
        if self.task == "seg" or float(self.values["negatives"]) > 0:
            point = {"specificity": SPECIFICITY} if self.task == "seg" else {}
            kinds["evaluation_negatives"] = {"negative_share": "0.5", **point}
        for name, options in kinds.items():
            values = {
                **{"dataset_dir": self.values["data"], "checkpoint": str(self.folder / "model.pt"), **options},
                "output_dir": str(self.folder / name),
            }
            file = ROOT / "bundles" / self.bundle / "configs" / "evaluate.json"
            yield self.folder / name, self._command("evaluating", [file], values)

    def trained(self) -> bool:
        """Whether all epochs are there."""
        log = self.folder / "log.csv"
        if not log.is_file() or not (self.folder / "model.pt").is_file():
            return False
        with open(log, newline="") as file:
            done = [float(row["epoch"]) for row in csv.DictReader(file)]
        return bool(done) and max(done) >= float(self.values["epochs"])

    def _command(self, run: str, files: list[Path], values: dict[str, str]) -> list[str]:
        device = {"device": self.values["device"]} if self.values["device"] else {}
        options = [word for name, value in {**values, **device}.items() for word in (f"--{name}", value)]
        listed = "[" + ",".join(f"'{file}'" for file in files) + "]"
        return [sys.executable, "-m", "monai.bundle", "run", run, "--config_file", listed, *options]


def main(words: list[str]) -> int:
    """Train and evaluate; the exit code is 0, 2 for a wrong call, 75 if time was up, or that of a failed command."""
    if sum("=" not in word for word in words) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        run = Run.named(words)
        # Its teacher may no longer be there when it is complete.
        training = [] if run.trained() else run.training()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    commands = [(None, training)] if training else []
    commands += [(done, command) for done, command in run.evaluations() if not (done / "metrics.json").is_file()]
    environment = {**os.environ, "OMP_NUM_THREADS": run.values["threads"]}
    for _, command in commands:
        print(shlex.join(command), flush=True)
        if run.values["show"] != "0":
            continue
        limit = 60 * float(run.values["minutes"]) if run.values["minutes"] and command is training else None
        try:
            code = subprocess.run(command, env=environment, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            print(f"time is up; the same command continues in {run.folder}", file=sys.stderr)
            return UNFINISHED
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
