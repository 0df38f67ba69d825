"""What the cache holds, how old it is, and what would go to keep it within a limit."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bench.runtime import files
from fixtures.errors import BenchError

UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Entry:
    """A victim, a packed data set, a record, or what was set aside: files that go together.

    ``used``: when it was last asked for (a victim) or written, in seconds since the epoch.
    ``lock``: what a process holds that works on it just now.
    """

    kind: str
    files: tuple[Path, ...]
    size: int
    used: float
    lock: Path | None = None

    @property
    def name(self) -> str:
        """Of its first file; a packed data set's is that of its folder."""
        first = self.files[0]
        return first.parent.name if self.kind == "packed" else first.name


def entries(cache: Path) -> list[Entry]:
    """Everything in the cache, the least recently used last. Empty where there is no cache.

    Raises BenchError where it cannot be read.
    """
    found = []
    beside: dict[str, list[Path]] = {}
    for path in sorted((cache / "victims").glob("[!.]*")):
        if path.suffix not in (".damaged", ".safetensors"):
            beside.setdefault(path.name.partition(".")[0], []).append(path)
    for path in sorted((cache / "victims").glob("*.safetensors")):
        lock = path.with_suffix(".lock")
        found.append(_entry("victims", path, *beside.get(path.stem, ()), lock=lock))
        beside.pop(path.stem, None)
    # Of a process that was killed between the poison and the weights.
    for name, alone in sorted(beside.items()):
        if any(path.suffix not in (".lock", ".holder") for path in alone):
            lock = cache / "victims" / f"{name}.lock"
            found.append(_entry("leftovers", *alone, lock=lock))
    for folder in sorted((cache / "packed").glob("*/")):
        files_of = sorted(folder.glob("[!.]*"))
        if any(path.suffix != ".lock" for path in files_of):
            found.append(_entry("packed", *files_of, lock=folder / "pixels.lock"))
    found += [_entry("records", path) for path in sorted((cache / "records").glob("*.json"))]
    # Set aside as unreadable, or half-written by a process that was killed.
    parts = (path for path in cache.glob("*/.*.part") if files.abandoned(path))
    leftovers = [*cache.glob("*/*.damaged"), *parts]
    found += [_entry("leftovers", path) for path in sorted(leftovers)]
    return sorted((entry for entry in found if entry.files), key=lambda entry: -entry.used)


def _entry(kind: str, *paths: Path, lock: Path | None = None) -> Entry:
    stats = {}
    for path in paths:
        try:
            stats[path] = path.stat()
        except FileNotFoundError:  # gone meanwhile, or never there
            continue
        except OSError as error:
            raise BenchError(f"cannot read {path}: {error.strerror}") from error
    used = max((stat.st_mtime for stat in stats.values()), default=0.0)
    return Entry(kind, tuple(stats), sum(stat.st_size for stat in stats.values()), used, lock)


def surplus(found: Sequence[Entry], limit: int) -> list[Entry]:
    """What must go: leftovers first, then the least recently used, until the rest fits."""
    total = sum(entry.size for entry in found)
    going = []
    for entry in sorted(found, key=lambda entry: (entry.kind != "leftovers", entry.used)):
        if total <= limit:
            break
        going.append(entry)
        total -= entry.size
    return going


def prune(going: Iterable[Entry]) -> list[Entry]:
    """Delete entries; returns those that are gone. One that a run holds just now is left alone.

    Raises BenchError where the system refuses.
    """
    gone = []
    for entry in going:
        try:
            if entry.lock is not None:
                with FileLock(entry.lock, timeout=0):
                    _delete(entry)
            else:
                _delete(entry)
        except Timeout:
            continue
        except OSError as error:
            raise BenchError(f"cannot delete {entry.files[0]}: {error.strerror}") from error
        gone.append(entry)
    return gone


def _delete(entry: Entry) -> None:
    # The JSON vouches for all the rest, so it goes first; the lock stays, others may wait.
    for path in sorted(entry.files, key=lambda path: path.suffix != ".json"):
        if path.suffix != ".lock":
            path.unlink(missing_ok=True)


def lines(cache: Path, found: Sequence[Entry], limit: int) -> list[str]:
    """The cache as people read it: by kind, then what pruning would take."""
    text = [f"{cache}: {show_size(sum(e.size for e in found))} of at most {show_size(limit)}"]
    for kind in ("victims", "packed", "records", "leftovers"):
        some = [entry for entry in found if entry.kind == kind]
        if some:
            text.append(
                f"  {kind:10}{len(some):6}{show_size(sum(e.size for e in some)):>11}"
                f"   last used {_ago(some[0])} to {_ago(some[-1])} ago"
            )
    going = surplus(found, limit)
    if going:
        size = show_size(sum(entry.size for entry in going))
        text.append(f"over the limit; --prune would delete {len(going)} entries, {size}:")
        text += [
            f"  {entry.kind:10}{entry.name}  {show_size(entry.size)}, last used {_ago(entry)} ago"
            for entry in going
        ]
    else:
        text.append("within the limit: --prune would delete nothing")
    return text


def parse_size(text: str) -> int:
    """``"500MB"`` -> 500_000_000. Raises BenchError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]B)", text)
    if match is None:
        raise BenchError(f"--limit: {text!r} is not a size like 500MB or 2GB")
    return round(float(match[1]) * UNITS[match[2]])


def show_size(size: int) -> str:
    """Bytes in the largest unit that leaves at least one."""
    for unit, factor in reversed(UNITS.items()):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _ago(entry: Entry) -> str:
    seconds = max(0.0, time.time() - entry.used)
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
