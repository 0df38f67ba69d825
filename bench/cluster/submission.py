"""Runs that outlive the terminal: jobs of a Ray cluster, told of and collected at any time."""

from __future__ import annotations

import re
import secrets
import shlex
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.cluster.nodes import ANSWERS_S, library
from bench.store import records
from bench.store.records import Record
from fixtures.errors import BenchError

ADDRESS = "http://127.0.0.1:8265"
"""Where a cluster of this machine takes jobs."""

FOLDER = "$HOME/triggerbench/{id}"
"""Where a job's results lie on the cluster's head, a shell says what that is."""

PROGRESS = re.compile(r"^\s*\d+/\d+ {2}\S.*|^=+ .* =+$")
"""Lines of a run that say how far it is."""

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
PATIENCE_S = 600.0
"""For the job that reads records."""

READY_S = 30.0
"""For a cluster that has just begun: it takes jobs a little later than it answers."""


def submit(address: str, suite: str, options: Sequence[str]) -> str:
    """Begin ``pytest bench --suite SUITE`` on the cluster; the job's id. Raises BenchError.

    ``options``: more of pytest's. A suite that is not known, or any other wrong value, ends the
    job at once: its status says so.
    """
    id = f"triggerbench-{secrets.token_hex(4)}"
    run = ["python", "-m", "pytest", "--pyargs", "bench", "-p", "bench.plugin", "--executor", "ray"]
    folder = FOLDER.format(id=id)
    entry = f'{shlex.join([*run, "--suite", suite, *options])} --results-dir "{folder}"'
    return str(_asked(address, "submit_job", entrypoint=entry, submission_id=id))


def status(address: str, id: str | None = None) -> list[str]:
    """A line for each job of this project, the newest first: id, state, how far it is.

    Raises BenchError where nobody answers, or there is no such job.
    """
    found = sorted(_jobs(address, id), key=lambda job: -(job.start_time or 0))
    return [
        f"{job.submission_id}  {str(job.status).lower()}  {_far(address, job)}" for job in found
    ]


def collected(address: str, id: str) -> list[Record]:
    """The records that a job has by now, running or not. Raises BenchError."""
    _jobs(address, id)
    folder = FOLDER.format(id=id)
    entry = f'python -m bench collect "{folder}" --to -'
    asked = str(_asked(address, "submit_job", entrypoint=entry, submission_id=f"{id}-{_short()}"))
    until = time.monotonic() + PATIENCE_S
    while (state := str(_asked(address, "get_job_status", asked))) not in ENDED:
        if time.monotonic() > until:
            raise BenchError(f"{address}: {asked} has not ended after {PATIENCE_S:.0f} s")
        time.sleep(0.5)
    said = str(_asked(address, "get_job_logs", asked))
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if state != "SUCCEEDED" or not lines:
        why = (said.strip().splitlines() or ["it has no records yet"])[-1]
        raise BenchError(f"{id}: {why.removeprefix('error: ')}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / records.LINES
        path.write_text("".join(f"{line}\n" for line in lines))
        return records.load_lines(path)


def _jobs(address: str, id: str | None) -> list[Any]:
    """This project's, or the one of that id. Raises BenchError where that is none."""
    wanted = r"triggerbench-[0-9a-f]{8}" if id is None else re.escape(id)
    found = [
        job
        for job in _asked(address, "list_jobs")
        if re.fullmatch(wanted, str(job.submission_id or ""))
    ]
    if id is not None and not found:
        raise BenchError(f"{address} knows no job {id}")
    return found


def _far(address: str, job: Any) -> str:
    said = str(_asked(address, "get_job_logs", job.submission_id)).splitlines()
    lines = [line.strip() for line in said if PROGRESS.match(line) or line.startswith("ERROR: ")]
    return lines[-1] if lines else ""


def _asked(address: str, method: str, *arguments: Any, **named: Any) -> Any:
    """Of the cluster's job server. Raises BenchError, one line."""
    library()
    from ray.job_submission import JobSubmissionClient

    where, until = urlsplit(address), time.monotonic() + READY_S
    while True:
        try:
            with socket.create_connection((where.hostname or "", where.port or 80), ANSWERS_S):
                pass
            client = JobSubmissionClient(address)
            return getattr(client, method)(*arguments, **named)
        except Exception as error:  # of sockets, HTTP, or Ray
            line = " ".join(str(error).split())[:200] or type(error).__name__
            if "try again" not in line or time.monotonic() > until:
                raise BenchError(f"--address: {address}: {line}") from error
            time.sleep(1.0)


def _short() -> str:
    return secrets.token_hex(2)
