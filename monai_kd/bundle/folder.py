"""Where the bundles are."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_bundle"]


def find_bundle(name: str, bundles: str | Path | None = None) -> Path:
    """The folder of a bundle, absolute.

    Args:
        name: ``"seg_student"``, say.
        bundles: the folder it lies in; without one, ``bundles/`` of the checkout that this package runs from.

    Raises:
        FileNotFoundError: there is no such bundle.
    """
    folder = Path(__file__).parents[2] / "bundles" if bundles is None else Path(bundles).expanduser()
    bundle = folder.resolve() / name
    if not (bundle / "configs").is_dir():
        raise FileNotFoundError(
            f"there is no bundle {name} in {folder.resolve()}: run this from a checkout of the repository, or give "
            "--bundles FOLDER, the bundles/ of one."
        )
    return bundle
