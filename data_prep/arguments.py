"""A parser of the command line for programs with commands."""

from __future__ import annotations

import argparse
import difflib
import sys
from itertools import takewhile
from typing import Any

__all__ = ["CommandParser"]


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, for ``add_subparsers(parser_class=CommandParser)``.

    An option that the command does not know ends it with the usage of the command and the nearest options; argparse
    prints the usage of the whole program, and no options.

    Options may stand anywhere, also between positional arguments of which one may be left out.
    """

    _intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        if self._intermixed:
            return super().parse_known_args(words, namespace)
        # Before argparse, which would rather miss the option that was meant. It takes beginnings of names.
        for name in (word.partition("=")[0] for word in takewhile(lambda word: word != "--", words)):
            if name.startswith("--") and not any(option.startswith(name) for option in self._option_string_actions):
                near = difflib.get_close_matches(name, self._option_string_actions, n=2)
                hint = f" (did you mean {' or '.join(near)}?)" if near else ""
                self.error(f"unrecognized arguments: {name}{hint}")
        if "--" in words:
            # argparse does not keep it where it parses options first.
            found, unknown = super().parse_known_args(words, namespace)
        else:
            self._intermixed = True
            try:
                found, unknown = self.parse_known_intermixed_args(words, namespace)
            finally:
                self._intermixed = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown
