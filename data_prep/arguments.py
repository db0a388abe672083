"""A parser of the command line for programs with commands."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

__all__ = ["CommandParser"]


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, for ``add_subparsers(parser_class=CommandParser)``.

    An option that the command does not know ends it with the usage of the command and the nearest options; argparse
    prints the usage of the whole program, and no options.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # Options may be written as --name=value.
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=2)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown
