"""``python -m monai_kd``: things that take more than one bundle command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .demo import run_demo


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m monai_kd", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo", help="train, distil, evaluate and segment on generated phantom slices, by the bundles, in some minutes"
    )
    demo.add_argument("output_dir", nargs="?", default="demo", type=Path, help="where everything goes (default: demo)")
    given = parser.parse_args(arguments)
    return run_demo(given.output_dir)


if __name__ == "__main__":
    sys.exit(main())
