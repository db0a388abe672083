"""Finding the folder of a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["CHECKOUT", "bundle_folder", "copy_bundle", "find_bundle"]

# ``bundles/`` of the checkout that this package runs from.
CHECKOUT = Path(__file__).resolve().parents[2] / "bundles"


def find_bundle(name: str, bundles: str | Path | None = None) -> Path:
    """The absolute path of the folder of a bundle.

    Args:
        name: name of the bundle, such as ``"seg_student"``.
        bundles: folder of the bundles; ``None`` for ``bundles/`` of the checkout that this package runs from.

    Raises:
        FileNotFoundError: there is no such bundle.
    """
    folder = CHECKOUT if bundles is None else Path(bundles).expanduser()
    bundle = folder.resolve() / name
    if not (bundle / "configs").is_dir():
        raise FileNotFoundError(
            f"there is no bundle {name} in {folder.resolve()}: run this from a checkout of the repository, or give "
            "the folder bundles/ of a checkout, --bundles FOLDER."
        )
    return bundle


def bundle_folder(bundle: str | Path, bundles: str | Path | None = None) -> Path:
    """The folder of a bundle that is given as such, or by its name, see `find_bundle`."""
    return Path(bundle) if (Path(bundle) / "configs").is_dir() else find_bundle(str(bundle), bundles)


def copy_bundle(bundle: Path, target: Path) -> None:
    """Copy what belongs to a bundle: no weights, results or caches that lie in its folder."""
    for part in ("configs", "docs"):
        shutil.copytree(bundle / part, target / part, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    shutil.copyfile(bundle / "LICENSE", target / "LICENSE")
