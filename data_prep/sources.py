"""Where slices come from: folders, single files, zip archives, and archives in archives, read in memory."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

# What zipfile raises on a damaged, encrypted or unsupported archive; ValueError for offsets and names that cannot be.
UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
LONGEST_ID = 200  # characters; suffixes and temporary names add some 30 to it


class SourceError(Exception):
    """SRC as a whole cannot be used."""


@dataclass(frozen=True)
class Source:
    """One `.mat` file.

    Attributes:
        name: path relative to SRC with forward slashes, through archives: `part1.zip/12.mat`.
        chain: path on disk, followed by the member names that lead to the file through archives.
        stamp: size and CRC-32 of the content, `212964-7d3f01aa`, where an archive's directory tells it; else None.
        problem: why this file cannot be read at all, or None.
    """

    name: str
    chain: tuple[str, ...]
    stamp: str | None = None
    problem: str | None = None


def stamp_of(blob: bytes) -> str:
    """Size and CRC-32 of a file's content: tells a changed file from an unchanged one."""
    return _stamp(len(blob), zlib.crc32(blob))


def _stamp(size: int, crc: int) -> str:
    return f"{size}-{crc:08x}"


def slice_id(name: str) -> str:
    """File name for a slice's output: `0012` for `a/12.mat`; other names are kept, less what is unsafe in a path.

    Names that leave no room for a suffix are cut, and made their own again by a hash of the whole.
    """
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if re.fullmatch(r"[0-9]{1,9}", stem):
        return f"{int(stem):04d}"
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
    if len(safe) <= LONGEST_ID:
        return safe
    return f"{safe[: LONGEST_ID - 9]}-{hashlib.sha256(stem.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def reason_of(error: Exception) -> str:
    """What an error says, its type where it says nothing, as the end of a stream in an archive does."""
    return str(error) or type(error).__name__


class Reader:
    """Reads sources. Keeps the last archive open, so reading in the order of `scan` opens each archive once.

    An archive inside an archive is held in memory while its members are read (220 MB for a Figshare part).
    """

    def __init__(self) -> None:
        self._open: list[tuple[str, zipfile.ZipFile]] = []

    def read(self, chain: tuple[str, ...]) -> bytes:
        """Content of the file. Raises what `UNREADABLE` lists."""
        if len(chain) == 1:
            return Path(chain[0]).read_bytes()
        return self.archive(chain[:-1]).read(chain[-1])

    def archive(self, chain: tuple[str, ...]) -> zipfile.ZipFile:
        """The archive at the end of the chain, opened."""
        same = 0
        while same < min(len(chain), len(self._open)) and self._open[same][0] == chain[same]:
            same += 1
        while len(self._open) > same:
            self._open.pop()[1].close()
        for name in chain[same:]:
            file = io.BytesIO(self._open[-1][1].read(name)) if self._open else name
            self._open.append((name, zipfile.ZipFile(file)))
        return self._open[-1][1]

    def close(self) -> None:
        while self._open:
            self._open.pop()[1].close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scan(src: str | Path) -> list[Source]:
    """All `.mat` files in a folder (nested ones and zip archives too), in one archive, or the one file that SRC is.

    Files are sorted by folder or archive, and in it by number. Hidden files and `__MACOSX` folders are left out: macOS
    puts files of the same names there that hold no data. Linked files are read, linked folders are not entered. A
    folder that may not be read is a source with a problem.

    Raises:
        SourceError: SRC does not exist, is something else, may not be read, or has no `.mat` file in it.
    """
    src = Path(src)
    if not src.exists():
        raise SourceError(f"{src} does not exist")
    closed: list[OSError] = []
    if src.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(src, onerror=closed.append) for name in names]
        named = {path.relative_to(src).as_posix(): str(path) for path in files}
    else:
        named = {src.name: str(src)}
    found: list[Source] = []
    with Reader() as reader:
        for name in sorted(filter(_wanted, named), key=_order):
            found += _expand(name, (named[name],), None, reader)
    found += _closed_folders(src, closed)
    if not found:
        raise SourceError(f"no .mat file and no .zip archive with .mat files in {src}")
    return found


def _closed_folders(src: Path, errors: list[OSError]) -> list[Source]:
    found = []
    for error in sorted(errors, key=lambda error: str(error.filename)):
        path = Path(error.filename)
        if path == src:
            raise SourceError(f"{src} cannot be read ({error.strerror}): ask for the right to read it")
        name = path.relative_to(src).as_posix()
        if not _hidden(name):
            problem = f"the folder cannot be read ({error.strerror}): ask for the right to read it"
            found.append(Source(name, (str(path),), None, problem))
    return found


def _wanted(name: str) -> bool:
    return name.lower().endswith((".mat", ".zip")) and not _hidden(name)


def _hidden(name: str) -> bool:
    return any(part == "__MACOSX" or part.startswith(".") for part in name.split("/"))


def _order(name: str) -> tuple[str, int, int, str]:
    folder, _, file = name.rpartition("/")
    number = re.match(r"[0-9]+", file)
    return folder, number is None, int(number.group()) if number else 0, file


def _expand(name: str, chain: tuple[str, ...], stamp: str | None, reader: Reader) -> list[Source]:
    if not name.lower().endswith(".zip"):
        return [Source(name, chain, stamp)]
    try:
        members = {member.filename: member for member in reader.archive(chain).infolist()}
    except UNREADABLE as error:
        return [
            Source(name, chain, stamp, f"not a readable zip archive ({reason_of(error)}): copy or download it again")
        ]
    found = []
    for inner in sorted(filter(_wanted, members), key=_order):
        member_stamp = _stamp(members[inner].file_size, members[inner].CRC)
        found += _expand(f"{name}/{inner}", (*chain, inner), member_stamp, reader)
    return found
