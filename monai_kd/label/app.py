"""A folder that MONAI Label can serve."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from data_prep.text import printable

from ..bundle import find_bundle, trained_settings
from ..bundle.familiarity import files_of_weights
from ..bundle.folder import copy_bundle
from ..bundle.metadata import described
from ..config.errors import one_line_errors
from ..inference import BundlePredictor
from ..io.atomic import atomic_folder, check_atomic_folder, write_json
from ..io.checksum import file_sha256
from ..io.network_name import network_name
from ..io.trained import check_of_slices, copy_settings, settings_path

__all__ = ["make_app", "run_label_app"]

MAIN = Path(__file__).with_name("main.py")
STUDENTS = ("segmentation", "classification")
BUNDLES = {"segmentation": "seg_student", "classification": "cls_student", "teacher": "seg_teacher"}


def make_app(folder: str | Path, checkpoints: dict[str, Path], bundles: str | Path | None = None) -> None:
    """Put bundles and their weights into a new folder, with the ``main.py`` of our app; whole or not at all.

    The folder is an app of ours, and its ``model/`` serves MONAI Label's own app ``monaibundle`` as it is.

    Args:
        folder: must not exist, or be empty.
        checkpoints: ``"segmentation"``, ``"classification"`` or ``"teacher"`` to weights; each is loaded once, so that
            a server does not fail on what could be seen before.
        bundles: folder of the bundles, see `find_bundle`.

    Raises:
        FileExistsError: the folder holds something.
        FileNotFoundError: there is no such bundle or checkpoint.
        ValueError: there is neither segmentation nor classification, a teacher has no student, or a checkpoint does not
            fit its bundle.
    """
    folder = Path(folder).expanduser().resolve()
    check_atomic_folder(folder)
    if not checkpoints.keys() & set(STUDENTS):
        raise ValueError("nothing to serve: give --segmentation CHECKPOINT, --classification CHECKPOINT, or both.")
    if "teacher" in checkpoints and "segmentation" not in checkpoints:
        raise ValueError("--teacher teaches the segmentation student: give --segmentation CHECKPOINT too.")
    for what, checkpoint in checkpoints.items():
        try:
            BundlePredictor(find_bundle(BUNDLES[what], bundles), checkpoint, device="cpu")
        except (ValueError, OSError) as error:
            raise ValueError(f"--{what}: {error}") from error
    with atomic_folder(folder) as made:
        for what, checkpoint in checkpoints.items():
            _copy_bundle(find_bundle(BUNDLES[what], bundles), Path(checkpoint).expanduser(), made / "model")
        shutil.copyfile(MAIN, made / "main.py")


def _own(bundles: Path | None) -> dict[str, Path]:
    """The checkpoints of the students' bundles themselves, as far as they are there."""
    found = {what: find_bundle(BUNDLES[what], bundles) / "models" / "model.pt" for what in STUDENTS}
    return {what: path for what, path in found.items() if path.is_file()}


def _copy_bundle(bundle: Path, checkpoint: Path, bundles: Path) -> None:
    target = bundles / bundle.name
    copy_bundle(bundle, target)
    (target / "models").mkdir()
    model, settings = target / "models" / "model.pt", settings_path(checkpoint)
    content = settings.read_bytes() if settings.is_file() else None
    shutil.copyfile(checkpoint, model)
    for name, path in files_of_weights(checkpoint).items():
        shutil.copyfile(path, model.with_name(name))
    if content is not None:
        # Settings are replaced before weights are: as long as they are the same, they are those of the copy.
        if settings.read_bytes() != content:
            raise ValueError(f"{checkpoint} was replaced while it was copied: try again when its training has ended.")
        copy_settings(settings, settings_path(model))
    file = target / "configs" / "metadata.json"
    metadata, sha256 = json.loads(file.read_text(encoding="utf-8")), file_sha256(model)
    metrics = metadata.get("eval_metrics") if metadata.get("weights_sha256") == sha256 else {}
    trained = trained_settings(model, target)
    check_of_slices(trained, checkpoint)
    # MONAI Label reads the names of the classes there.
    write_json(described(metadata, trained, sha256, metrics or {}), file)


@one_line_errors
def run_label_app(
    folder: Path,
    segmentation: Path | None = None,
    classification: Path | None = None,
    teacher: Path | None = None,
    bundles: Path | None = None,
) -> int:
    """``python -m monai_kd label_app``; the exit code: 0, or 2 after saying what is wrong."""
    given = {"segmentation": segmentation, "classification": classification, "teacher": teacher}
    checkpoints = {what: path for what, path in given.items() if path is not None}
    if not checkpoints.keys() & set(STUDENTS):
        checkpoints |= _own(bundles)
    make_app(folder, checkpoints, bundles)
    for what, path in checkpoints.items():
        print(printable(f"{what}: {network_name(path)}"))
    print(f"{folder} is ready. In the environment of MONAI Label (docs/label.md):")
    print(f"  monailabel start_server --app {shlex.quote(str(folder))} --studies FOLDER_OF_IMAGES --host 127.0.0.1")
    return 0
