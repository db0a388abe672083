"""Put trained weights into a bundle of this repository; see docs/study.md.

    python docs/experiments/release.py seg_student RUN/model.pt [operating_point=EVALUATION] [classifier=RUN/model.pt]
        [temperature=EVALUATION] [metrics=EVALUATION] [mirror=AXES]

writes models/model.pt, models/settings.json and, with a temperature, models/temperature.json of the bundle, and
models/familiarity.safetensors if the run has it (python -m monai_kd familiarity), without paths of this computer,
and describes the network in configs/metadata.json. Each EVALUATION is a folder that evaluate.json wrote. It may be
that of a network of the same recipe which was trained without one fold, where the weights that are released have seen
all folds; then the files say so. Without operating_point there is none, whatever the settings beside the checkpoint
have. One that was chosen together with a classifier needs that classifier, or the one of the same recipe that has seen
all folds, which is written to models/classifier.safetensors; one chosen with the network's own classes needs none.
AXES, such as [0], are those along which inference mirrors by default; each EVALUATION must have been made with them.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from monai_kd.bundle import second_reader, trained_settings
from monai_kd.bundle.metadata import eval_metrics
from monai_kd.config.errors import one_line_errors
from monai_kd.export.archive import pack_bundle
from monai_kd.io.atomic import atomic_write, write_json
from monai_kd.io.trained import FAMILIARITY_FILE, READER_FILE, TEMPERATURE_FILE
from monai_kd.metrics import needs_classifier_file

ROOT = Path(__file__).resolve().parents[2]
SAME_RECIPE = "a network of the same recipe that was trained without this fold"
SAME_READER = "a classifier of the same recipe that was trained without this fold"


def read(folder: str, name: str) -> dict[str, Any]:
    return json.loads((Path(folder).expanduser() / name).read_text(encoding="utf-8"))


def packed_files(bundle: Path, checkpoint: str) -> dict[str, bytes]:
    """The archive of a bundle with these weights: files by their place in it, without paths of this computer.

    Raises:
        FileNotFoundError, ValueError: see `pack_bundle`.
    """
    with (
        tempfile.TemporaryDirectory() as temporary,
        zipfile.ZipFile(pack_bundle(bundle, checkpoint, temporary)) as archive,
    ):
        return {each.partition("/")[2]: archive.read(each) for each in archive.namelist()}


def release(name: str, checkpoint: str, given: dict[str, str]) -> None:
    """Fill ``models/`` and ``metadata.json`` of the bundle ``name``.

    Raises:
        FileNotFoundError, ValueError: see `pack_bundle`; or a value is unknown.
    """
    mirror, classifier = json.loads(given.pop("mirror", "[]")), given.pop("classifier", None)
    if unknown := set(given) - {"operating_point", "temperature", "metrics"}:
        raise ValueError(f"there is no value {', '.join(sorted(unknown))}.")
    bundle = ROOT / "bundles" / name
    packed = packed_files(bundle, checkpoint)
    weights, familiarity = packed["models/model.pt"], packed.get(f"models/{FAMILIARITY_FILE}")
    settings, metadata = (json.loads(packed[each]) for each in ("models/settings.json", "configs/metadata.json"))
    evaluations = {option: read(folder, "metrics.json") for option, folder in given.items()}

    mirrored = {option: each.get("settings", {}).get("mirror", []) for option, each in evaluations.items()}
    if other := [option for option, axes in mirrored.items() if axes != mirror]:
        raise ValueError(f"evaluated with other mirror images than {mirror}: {', '.join(other)}.")

    def by(option: str) -> str:
        """Of which network the numbers are, where it is not this one."""
        own = evaluations[option]["checkpoint"]["sha256"] == settings["weights_sha256"]
        return "" if own else f"; {SAME_RECIPE}"

    settings.pop("operating_point", None)
    settings["mirror"] = mirror
    reader = None
    if classifier is not None and "operating_point" not in given:
        raise ValueError("classifier belongs to an operating_point: give both.")
    if "operating_point" in given:
        point = read(given["operating_point"], "operating_point.json")
        point["measured_on"] += by("operating_point")
        if needs_classifier_file(point) != (classifier is not None):
            raise ValueError(
                "classifier is needed where the operating point was chosen together with a file of one, and only there."
            )
        if classifier is not None:
            reader = second_reader(checkpoint, trained_settings(checkpoint), classifier)
        if reader is not None and reader.sha256 != point["classifier"]:
            point = {**point, "classifier": reader.sha256, "measured_on": f"{point['measured_on']}; {SAME_READER}"}
        settings["operating_point"] = point
    metrics = {}
    if "metrics" in given:
        measured = evaluations["metrics"]
        of = f"fold {measured['dataset']['fold']} (counted from 0)"
        of += ", without the presence rule" if "overall" in measured else ""
        of += ", averaged over the mirror image" if mirror else ""
        metrics = {"of": of + by("metrics"), **eval_metrics(measured)}
    file = bundle / "configs" / "metadata.json"
    text = file.read_text(encoding="utf-8")
    image = metadata["network_data_format"]["inputs"]["image"]
    described = {"weights_sha256": settings["weights_sha256"], "eval_metrics": metrics}
    if "operating_point" in settings or '    "operating_point"' in text:
        described["operating_point"] = settings.get("operating_point")
    for key in described:
        if f'    "{key}"' not in text:
            text = text.replace('    "eval_metrics"', f'    "{key}": null,\n    "eval_metrics"', 1)
    # What the bundle says of its weights in words is written by hand.
    metadata = {**metadata, **described, "description": json.loads(text)["description"]}
    for key, value in {**described, "value_range": image["value_range"]}.items():
        # The first of this name, on one line; the file keeps its layout.
        text = re.sub(rf'(?m)^(\s*"{key}": ).*?(,?)$', lambda m, v=value: m[1] + json.dumps(v) + m[2], text, count=1)
    if json.loads(text) != metadata:
        raise ValueError(f"{file} describes another network than the weights: shapes or classes differ. Edit it.")
    calibration = None
    if "temperature" in given:
        calibration = {
            "temperature": read(given["temperature"], TEMPERATURE_FILE)["temperature"],
            "fitted_to": f"fold {evaluations['temperature']['dataset']['fold']} (counted from 0){by('temperature')}",
            "checkpoint": {"sha256": settings["weights_sha256"]},
        }
    # Only now, when nothing can be missing any more.
    models = bundle / "models"
    models.mkdir(exist_ok=True)
    with atomic_write(models / "model.pt") as partial:
        partial.write_bytes(weights)
    write_json(settings, models / "settings.json")
    (models / READER_FILE).unlink(missing_ok=True)
    if reader is not None:
        reader.save(models / READER_FILE)
    (models / FAMILIARITY_FILE).unlink(missing_ok=True)
    if familiarity is not None:
        with atomic_write(models / FAMILIARITY_FILE) as partial:
            partial.write_bytes(familiarity)
    (models / TEMPERATURE_FILE).unlink(missing_ok=True)
    if calibration is not None:
        write_json(calibration, models / TEMPERATURE_FILE)
    with atomic_write(file) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"{models / 'model.pt'}: {len(weights) / 2**20:.1f} MB, SHA-256 {settings['weights_sha256']}")
    print("Files of models/ are ignored by git until they are added: git add -f models/*")


@one_line_errors
def main(words: list[str]) -> int:
    names = [word for word in words if "=" not in word]
    if len(names) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    release(names[0], names[1], dict(word.split("=", 1) for word in words if "=" in word))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
