"""Whether a folder has a writer."""

from pathlib import Path

from data_prep.lock import FolderInUse, only_writer


def taken(folder: Path) -> bool:
    try:
        with only_writer(folder):
            return False
    except FolderInUse:
        return True
