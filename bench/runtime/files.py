"""Files that are either whole or not there."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from fixtures.errors import BenchError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def make_folder(folder: Path) -> Path:
    """Create a folder that can be written to. Raises BenchError with the reason in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BenchError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


def write(path: Path, content: bytes | str) -> Path:
    """Write under a temporary name, then move into place. Raises BenchError, leaving nothing."""
    data = content.encode() if isinstance(content, str) else content
    make_folder(path.parent)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BenchError(f"cannot write {path}: {error.strerror}") from error
        raise
    return path


def _sweep(path: Path) -> None:
    """Remove what killed processes left half-written of this file."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        if abandoned(part):
            part.unlink(missing_ok=True)


def abandoned(part: Path) -> bool:
    """Whether the process that was writing a ``.part`` file is no more."""
    owner = part.name.split(".")[-2]
    return owner.isdigit() and not psutil.pid_exists(int(owner))


def set_aside(path: Path) -> None:
    """Rename a damaged file to ``<name>.damaged``: out of the way, and there to be looked at."""
    if path.exists():
        path.replace(path.with_name(path.name + ".damaged"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time works on ``path``. Raises BenchError where no lock can be had.

    Its time of change, if it is there already, becomes now: what the cache goes by.
    """
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire()
        with suppress(FileNotFoundError):
            os.utime(path)
    except OSError as error:
        raise BenchError(f"cannot lock {path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def marked(name: str, text: str) -> str:
    """Text between the two markers by which it can be found again."""
    return f"<!-- {name}: begin -->\n\n{text}\n\n<!-- {name}: end -->"


def replace_marked(page: Path, name: str, text: str) -> Path:
    """Replace what stands between a page's markers. Raises BenchError where it has none."""
    try:
        before = page.read_text()
    except OSError as error:
        raise BenchError(f"{page}: {error.strerror}") from error
    head, begin, rest = before.partition(f"<!-- {name}: begin -->")
    _, end, tail = rest.partition(f"<!-- {name}: end -->")
    if not begin or not end:
        raise BenchError(f"{page}: no <!-- {name}: begin --> with a <!-- {name}: end --> after it")
    return write(page, head + marked(name, text) + tail)


def read_toml(path: Path) -> dict[str, Any]:
    """Raises BenchError, one line that names the file, where it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BenchError(f"{path}: {error}") from error
