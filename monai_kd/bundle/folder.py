"""Finding the folder of a bundle."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_bundle"]


def find_bundle(name: str, bundles: str | Path | None = None) -> Path:
    """The absolute path of the folder of a bundle.

    Args:
        name: name of the bundle, such as ``"seg_student"``.
        bundles: folder of the bundles; ``None`` for ``bundles/`` of the checkout that this package runs from.

    Raises:
        FileNotFoundError: there is no such bundle.
    """
    folder = Path(__file__).parents[2] / "bundles" if bundles is None else Path(bundles).expanduser()
    bundle = folder.resolve() / name
    if not (bundle / "configs").is_dir():
        raise FileNotFoundError(
            f"there is no bundle {name} in {folder.resolve()}: run this from a checkout of the repository, or give "
            "the folder bundles/ of a checkout, --bundles FOLDER."
        )
    return bundle
