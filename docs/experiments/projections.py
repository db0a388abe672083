"""What the projections of a finished run have learnt: whether features collapsed, and what they took over of the loss.

python docs/experiments/projections.py runs/kd_plus_plus

Of each layer: the root mean squares of the student's features and of the projected ones of its teacher, which a
collapse would make zero; and the distance of the maps of attention, as the term had it, with projections as they were
drawn, and of the features as tapped.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.bundle import create_workflow

from monai_kd.config import literal
from monai_kd.config.errors import one_line_errors
from monai_kd.io.checkpoints import read_checkpoint
from monai_kd.io.trained import read_settings
from monai_kd.losses import AttentionLoss

CONFIG = Path(__file__).resolve().parents[2] / "bundles" / "seg_student" / "configs" / "train.json"
KEPT = ("dataset_dir", "fold", "leave_out", "weights", "taps", "projection_side")


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a student's run, with a teacher on whose side it projects")
    parser.add_argument("--slices", type=int, default=10, help="spread over the validation slices (default: 10)")
    parser.add_argument("--student", type=Path, metavar="CHECKPOINT", help="of another run of the same network")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for line in measured(given.run, given.slices, folder, given.student):
            print(line)
    return 0


def measured(run: Path, slices: int, folder: str, student_weights: Path | None = None) -> list[str]:
    """A line for each tapped layer.

    Args:
        folder: for what a training would write.
        student_weights: in place of the student's of the run, such as of one that was trained alone.
    """
    settings = read_settings(run / "settings.json")
    workflow = create_workflow(
        config_file=str(CONFIG),
        workflow_type="train",
        logging_file=False,
        cache_rate=0.0,
        output_dir=folder,
        # Network, image size and classes are those of its settings.
        init_checkpoint=literal(run / "model.pt"),
        teacher_checkpoint=literal(settings["teacher"]["checkpoint"]),
        **{name: literal(settings[name]) for name in KEPT},
    )
    distiller, loss = (workflow.parser.get_parsed_content(name) for name in ("distiller", "loss"))
    data = workflow.parser.get_parsed_content("validate#dataset")
    last = read_checkpoint(run / "last.ckpt")
    distiller.student.load_state_dict(last["network"] if student_weights is None else read_checkpoint(student_weights))
    drawn = copy.deepcopy(loss.projections["teacher"])
    loss.load_state_dict(last["loss"])
    image = torch.stack([data[len(data) * n // slices]["image"] for n in range(slices)])
    with torch.no_grad():
        outputs = distiller.eval()(image)
        tapped = outputs["student_features"], outputs["teacher_features"]
        student, teacher = loss.projections["teacher"](*tapped)
        at_first = drawn(*tapped)
    lines = []
    for name in student:
        sizes = [float(side[name].square().mean().sqrt()) for side in (student, teacher)]
        lines.append(
            f"{name}: root mean square {sizes[0]:.3f} of the student's features, {sizes[1]:.3f} of the projected ones; "
            f"distance of attention {_distance(AttentionLoss(), name, student, teacher):.3f}, "
            f"with projections as drawn {_distance(AttentionLoss(), name, *at_first):.3f}, "
            f"as tapped {_distance(AttentionLoss(projected=False), name, *tapped):.3f}"
        )
    return lines


def _distance(term: AttentionLoss, name: str, *sides: Mapping[str, torch.Tensor]) -> float:
    return float(term(*({name: side[name]} for side in sides)))


if __name__ == "__main__":
    sys.exit(main())
