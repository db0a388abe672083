"""Templates of pages, and how text of strangers gets into them."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from data_prep.text import printable

__all__ = ["page_template"]


def page_template(name: str, package: str) -> Template:
    """A template of a package, which may include those of this one.

    Text is escaped for HTML, and characters that show nothing or turn the direction of writing as `printable` does.

    Args:
        name: of the file.
        package: that it lies in.
    """
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader(__package__, ".")])
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=loader,
        finalize=_shown,
    )
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    # Macros give whole lines of HTML, whose values went through here already.
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
