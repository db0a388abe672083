"""``python -m monai_kd taps``: a table of the modules of a network that can be tapped."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from .config import cause_of, literal
from .distillation import TapRow, inspect_taps

__all__ = ["configured_network", "run_taps"]


def configured_network(
    files: Sequence[str | Path],
    network: str = "network_def",
    shape: Sequence[int] | None = None,
    dataset_dir: str | Path | None = None,
) -> tuple[nn.Module, list[int]]:
    """Build a network from config files, with the shape of its input.

    Args:
        files: JSON or YAML; a later file overrides values of an earlier one, as with ``monai.bundle run``. ``~`` is
            expanded.
        network: id of the network in them.
        shape: (C, spatial axes …). ``None`` to take it from the config: from its ids ``in_channels``, ``spatial_dims``
            and ``image_size``, or else from the arguments ``in_channels``, ``spatial_dims`` and ``img_size`` of the
            network.
        dataset_dir: of the config, for those whose network depends on the data list, as those of volumes do.

    Returns:
        The network, and the shape.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is not JSON or YAML, there is no such id, it is no network, or the shape is not known.
    """
    paths = [Path(file).expanduser() for file in files]
    config = _merged(paths)
    if network not in config:
        defined = ", ".join(key for key in config if key.endswith(("_def", "network"))) or ", ".join(list(config)[:12])
        raise ValueError(f"{_named(paths)} define no '{network}', only {defined or 'nothing'}: give --network ID.")
    if "bundle_root" in config:
        # `monai_kd.bundle.root` finds it from MONAI's commands only.
        config["bundle_root"] = str(paths[0].resolve().parent.parent)
    if dataset_dir is not None:
        config["dataset_dir"] = literal(str(Path(dataset_dir).expanduser().absolute()))
    parser = ConfigParser(config)
    built = _evaluated(parser, network, paths)
    if callable(built) and not isinstance(built, nn.Module):
        built = built()
    if not isinstance(built, nn.Module):
        raise ValueError(f"'{network}' in {_named(paths)} is a {type(built).__name__}, not a network.")
    return built, [int(side) for side in shape or _configured_shape(parser, network, paths)]


def run_taps(
    configs: Sequence[str],
    network: str = "network_def",
    input_shape: str | None = None,
    as_json: bool = False,
    dataset_dir: Path | None = None,
) -> int:
    """Print the result of `inspect_taps` for a network, as a table or as JSON.

    Args:
        configs: paths of files, each one path or several separated by commas; see `configured_network`.
        network: id of the network in them.
        input_shape: of one image, ``"3,256,256"``.
        as_json: print one JSON object: ``network``, ``input_shape``, and ``modules``, a list of `TapRow`.
        dataset_dir: see `configured_network`.

    Returns:
        The exit code: 0, or 2 after one line on stderr.
    """
    try:
        shape = None if input_shape is None else _parsed(input_shape)
        files = [name for text in configs for name in ([text] if _is_file(text) else text.split(","))]
        built, shape = configured_network(files, network, shape, dataset_dir)
        rows = inspect_taps(built, shape)
    except Exception as error:  # configs and networks run arbitrary code, which can raise any error
        print(f"error: {' '.join(str(cause_of(error)).split()) or type(error).__name__}", file=sys.stderr)
        return 2
    if as_json:
        found = {"network": type(built).__name__, "input_shape": shape, "modules": [asdict(row) for row in rows]}
        print(json.dumps(found, indent=1))
    else:
        print(_table(type(built).__name__, shape, rows))
    return 0


def _is_file(text: str) -> bool:
    return Path(text).expanduser().is_file()


def _merged(files: Sequence[Path]) -> dict[str, Any]:
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}.")
        try:
            content = ConfigParser.load_config_file(str(file))
        except Exception as error:
            raise ValueError(f"{file} is neither JSON nor YAML: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{file} holds a {type(content).__name__}, not a config.")
    return ConfigParser.load_config_files([str(file) for file in files])


def _evaluated(parser: ConfigParser, name: str, files: Sequence[Path]) -> Any:
    try:
        return parser.get_parsed_content(name)
    except Exception as error:
        cause = str(cause_of(error)).rstrip(".")
        raise ValueError(
            f"'{name}' of {_named(files)} can't be built: {cause}. If a file refers to values of a train.json, give "
            "that train.json before it."
        ) from error


def _configured_shape(parser: ConfigParser, network: str, files: Sequence[Path]) -> list[int]:
    def first_value(*names: str) -> Any:
        return next((_evaluated(parser, name, files) for name in names if parser.get(name) is not None), None)

    channels = first_value("in_channels", f"{network}::in_channels")
    axes = first_value("spatial_dims", f"{network}::spatial_dims") or 2
    size = first_value("image_size", f"{network}::img_size")
    if channels is None or size is None:
        raise ValueError(
            f"the input shape of '{network}' is not in {_named(files)}: give --input_shape, such as 3,256,256."
        )
    return [channels, *([size] * axes if isinstance(size, int) else size)]


def _parsed(text: str) -> list[int]:
    try:
        shape = [int(side) for side in text.split(",")]
    except ValueError:
        shape = []
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"--input_shape is '{text}': channels and spatial axes are needed, such as 3,256,256.")
    return shape


def _named(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files))


def _table(name: str, shape: Sequence[int], rows: Sequence[TapRow]) -> str:
    lines = [("module", "class", "output", "stride", "parameters", "can't be tapped: it …")]
    for row in rows:
        output = "" if row.shape is None else " × ".join(["B", *map(str, row.shape[1:])])
        sides = row.stride or []
        stride = " × ".join(f"{side:g}" for side in (sides[:1] if len(set(sides)) == 1 else sides))
        path = "  " * row.path.count(".") + row.path
        lines.append((path, row.kind, output, stride, f"{row.parameters:,}" if row.parameters else "", row.problem))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    table = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]
    return "\n".join([f"{name} on an image of {' × '.join(map(str, shape))}", "", *table])
