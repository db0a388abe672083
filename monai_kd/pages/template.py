"""HTML templates, with escaping of untrusted text."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from data_prep.text import printable

__all__ = ["page_template"]


def page_template(name: str, package: str) -> Template:
    """A template of a package, which may include templates of this package.

    Text is escaped for HTML, and invisible characters and those that change the writing direction by `printable`.

    Args:
        name: name of the template file.
        package: package of the file.
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
    # Macros return HTML, whose values have already been escaped here.
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
