"""A bundle and its weights as one archive, in the form of MONAI's model zoo."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..bundle.card import card_of, data_license_of
from ..bundle.checkpoint import describe_checkpoint
from ..bundle.familiarity import familiarity_of
from ..bundle.folder import bundle_folder, copy_bundle
from ..bundle.metadata import classifies, described, measured, read_metadata
from ..bundle.temperature import find_temperature, read_temperature
from ..bundle.trained import trained_network, trained_settings, tried
from ..bundle.volumes import volume_settings
from ..config.errors import one_line_errors
from ..inference import BundlePredictor
from ..io import places
from ..io.atomic import atomic_folder, atomic_write, check_atomic_folder, write_json
from ..io.checkpoints import check_checkpoint
from ..io.checksum import file_sha256
from ..io.trained import FAMILIARITY_FILE, READER_FILE, TEMPERATURE_FILE
from ..metrics import needs_classifier_file

__all__ = ["pack_bundle", "run_pack"]

LARGEST_FILE = 25 * 2**20  # of a file in the zoo's repository, by its CONTRIBUTING.md
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
SAME_TIME = (1980, 1, 1, 0, 0, 0)  # of all members: equal contents give equal archives
# Settings that are places of the computer of the training, and mean nothing elsewhere.
PLACES = frozenset({"bundle_root", "output_dir", *places.PLACES})


def pack_bundle(
    bundle: str | Path,
    checkpoint: str | Path,
    output_dir: str | Path,
    name: str | None = None,
    evaluation: str | Path | None = None,
    weights_url: str | None = None,
) -> Path:
    """Write ``<name>_v<version>.zip`` with configs, docs, licences and weights, and return its path.

    In the archive, ``models/model.pt`` has the weights and ``models/settings.json`` describes them, without paths of
    the computer of the training; a temperature that was fitted to them becomes ``models/temperature.json``, and
    what training slices look like to them ``models/familiarity.safetensors``. ``configs/metadata.json`` has the shapes,
    the classes and the metrics of these weights. Before the archive appears, its network is built from its own files.

    Args:
        bundle: folder of a bundle, with ``configs/``.
        checkpoint: weights of its network.
        output_dir: folder for the archive.
        name: of the bundle in the archive, lower case with underscores; ``None`` for that of its folder.
        evaluation: folder that ``evaluate.json`` wrote for this checkpoint, for ``eval_metrics``. Without it they are
            empty: those of the bundle were measured with other weights.
        weights_url: where the weights are published, or with ``/`` at its end the folder where they are under the names
            that they have in the bundle's ``models/``. Then the folder ``<name>`` is written too, as the zoo's
            repository keeps a bundle: files above 25 MB are named in ``large_files.yml`` instead.

    Raises:
        FileExistsError: the archive or the folder exists.
        FileNotFoundError: there is no such checkpoint or evaluation.
        ValueError: the name is not allowed, the evaluation is of another checkpoint, the checkpoint does not fit, or
            several files are above 25 MB, and ``weights_url`` is of one.
    """
    bundle, checkpoint = Path(bundle).expanduser().resolve(), Path(checkpoint).expanduser()
    output_dir = Path(output_dir).expanduser().resolve()
    name = bundle.name if name is None else name
    if not NAME.fullmatch(name):
        raise ValueError(f"--name {name!r}: give lower-case letters, digits and single underscores.")
    metadata = read_metadata(bundle)
    archive, folder = output_dir / f"{name}_v{metadata['version']}.zip", output_dir / name
    if archive.exists():
        raise FileExistsError(
            f"{archive} exists: remove it, or raise version in {bundle.name}/configs/metadata.json, with its changelog."
        )
    if weights_url is not None:
        check_atomic_folder(folder)
    with tempfile.TemporaryDirectory(prefix="monai_kd-pack-") as temporary:
        packed = Path(temporary) / name
        _fill(packed, bundle, checkpoint, metadata, evaluation)
        _try(packed)
        large = _large_files(packed)
        if weights_url is not None and len(large) > 1 and not weights_url.endswith("/"):
            raise ValueError(
                f"--weights_url {weights_url} is the address of one file, and {len(large)} are above 25 MB "
                f"({', '.join(file.name for file in large)}): give that of their folder, with / at its end."
            )
        with atomic_write(archive) as partial:
            _zip(packed, partial)
        if weights_url is not None:
            with atomic_folder(folder) as partial:
                _as_in_the_repository(packed, partial, weights_url)
    return archive


@one_line_errors
def run_pack(
    bundle: str | Path,
    checkpoint: Path,
    output_dir: Path,
    name: str | None = None,
    evaluation: Path | None = None,
    weights_url: str | None = None,
    bundles: Path | None = None,
) -> int:
    """``python -m monai_kd pack``: write an archive with `pack_bundle`.

    Args:
        bundle: name of the bundle, see `find_bundle`, or its folder.
        checkpoint, output_dir, name, evaluation, weights_url: see `pack_bundle`.
        bundles: folder of the bundles.

    Returns:
        The exit code: 0, or 2 after an error on stderr.
    """
    folder = bundle_folder(bundle, bundles)
    archive = pack_bundle(folder, checkpoint, output_dir, name, evaluation, weights_url)
    packed = archive.name.rpartition("_v")[0]
    print(f"{archive}: {archive.stat().st_size / 2**20:.1f} MB, sha1 {_sha1(archive)}. To use it:")
    print(f"  unzip {archive.name}")
    print(
        f"  python -m monai.bundle run inferring --config_file {packed}/configs/inference.json --input FILE_OR_FOLDER "
        "--output_dir OUT"
    )
    if evaluation is None:
        print("Its metadata.json has no metrics: --evaluation names the folder that evaluate.json wrote for it.")
    return 0


def _fill(
    packed: Path, bundle: Path, checkpoint: Path, metadata: dict[str, Any], evaluation: str | Path | None
) -> None:
    copy_bundle(bundle, packed)
    check_checkpoint(checkpoint)
    settings = trained_settings(checkpoint, bundle)
    _choose_configs(packed / "configs", settings)
    weights = packed / "models" / "model.pt"
    weights.parent.mkdir()
    shutil.copyfile(checkpoint, weights)
    if classifies(metadata):
        settings.pop("mask_names", None)  # by which checkpoints of segmentations are told apart
    sha256 = file_sha256(weights)
    own = {"weights_sha256": sha256, "synthetic": describe_checkpoint(checkpoint).synthetic}
    write_json({**_without_places(settings), **own}, weights.with_name("settings.json"))
    found = {} if evaluation is None else measured(Path(evaluation).expanduser(), sha256)
    if (temperature := _temperature(checkpoint, evaluation)) is not None:
        content = {"temperature": temperature, "checkpoint": {"sha256": sha256}}
        write_json(content, weights.with_name(TEMPERATURE_FILE))
    if (familiarity := familiarity_of(checkpoint)) is not None:
        familiarity.save(weights.with_name(FAMILIARITY_FILE), sha256)
    if needs_classifier_file(settings["operating_point"]):
        shutil.copyfile(checkpoint.with_name(READER_FILE), weights.with_name(READER_FILE))
    write_json(described(metadata, settings, sha256, found), packed / "configs" / "metadata.json")
    card, data_license = card_of(bundle, metadata, settings, sha256, found), data_license_of(bundle, metadata, sha256)
    (packed / "docs" / "README.md").write_text(card, encoding="utf-8")
    (packed / "docs" / "data_license.txt").write_text(data_license, encoding="utf-8")


def _choose_configs(configs: Path, settings: Mapping[str, Any]) -> None:
    """Leave the configs that fit the network under the names that MONAI's tools look for.

    Those of volumes are laid over those of slices, and what only one of the two needs is left out.

    Raises:
        ValueError: the network is of volumes, and the bundle has no configs for these.
    """
    if settings.get("volumes") is None:
        return
    for name, of_volumes in (
        ("train", "volumes"),
        ("evaluate", "volumes_evaluate"),
        ("inference", "volumes_inference"),
    ):
        file, over = configs / f"{name}.json", configs / f"{of_volumes}.json"
        if not over.is_file():
            raise ValueError(f"the network is of volumes, and {configs.parent.name} has no {over.name}.")
        write_json(ConfigParser.load_config_files([str(file), str(over)]), file)
        over.unlink()


def _try(packed: Path) -> None:
    """Build the network of an archive from its own files, and run it once.

    Raises:
        ValueError: it can't be built, or does not take images of the size in its settings.
    """
    weights = packed / "models" / "model.pt"
    settings = trained_settings(weights, packed)
    if settings.get("volumes") is None:
        BundlePredictor(packed, weights, device="cpu")
        return
    volume_settings(settings)
    tried(trained_network(settings, weights), settings, "the network")


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, also those of the teacher in them, with ``None`` for paths of the computer of the training."""

    def cleaned(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cleaned(key, each) for key, each in value.items()}
        if isinstance(value, list):
            return [cleaned("", each) for each in value]
        return None if name in PLACES or (isinstance(value, str) and _is_place(value)) else value

    return {name: cleaned(name, value) for name, value in settings.items() if name != "previous"}


def _is_place(text: str) -> bool:
    return os.path.isabs(text) or text.startswith(("~", "../", "..\\")) or bool(re.match(r"[A-Za-z]:[\\/]", text))


def _temperature(checkpoint: Path, evaluation: str | Path | None) -> float | None:
    found = find_temperature(checkpoint)
    if evaluation is not None and (fitted := Path(evaluation).expanduser() / TEMPERATURE_FILE).is_file():
        found = fitted
    return None if found is None else read_temperature(str(found), checkpoint)


def _zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            member = zipfile.ZipInfo(file.relative_to(folder.parent).as_posix(), SAME_TIME)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with open(file, "rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target)


def _large_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and file.stat().st_size > LARGEST_FILE]


def _as_in_the_repository(packed: Path, folder: Path, weights_url: str) -> None:
    shutil.copytree(packed, folder, dirs_exist_ok=True)
    large = _large_files(folder)
    lines = ["large_files:"]
    for file in large:
        # JSON texts are YAML texts.
        values = {
            "path": file.relative_to(folder).as_posix(),
            "url": weights_url + file.name if weights_url.endswith("/") else weights_url,
            **{"hash_val": file_sha256(file), "hash_type": "sha256"},
        }
        start = "- "
        for key, value in values.items():
            lines.append(f"{start}{key}: {json.dumps(value)}")
            start = "  "
        file.unlink()
    if large:
        (folder / "large_files.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _sha1(path: Path) -> str:
    """By which the zoo's model_info.json lists archives."""
    digest = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
