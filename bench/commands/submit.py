"""``python -m bench submit`` and ``status``: a long run on a cluster, without the terminal."""

from __future__ import annotations

import argparse

from bench.commands.parsing import Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    begin = commands.add_parser(
        "submit", help="begin `pytest bench --suite SUITE` on a Ray cluster, which goes on alone"
    )
    begin.add_argument("suite", metavar="SUITE")
    begin.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTIONS",
                       help="more options of `pytest bench`, such as --seeds 1,2,3")  # fmt: skip
    _address(begin)
    begin.set_defaults(run=submit)
    tell = commands.add_parser("status", help="what runs that were submitted are at")
    tell.add_argument("job", nargs="?", metavar="JOB", help="Default: all")
    _address(tell)
    tell.set_defaults(run=status)


def _address(command: argparse.ArgumentParser) -> None:
    command.add_argument("--address", metavar="URL",
                         help="where the cluster takes jobs. Default: $RAY_API_SERVER_ADDRESS, "
                         "else http://127.0.0.1:8265")  # fmt: skip


def address(options: argparse.Namespace) -> str:
    import os

    from bench.cluster.submission import ADDRESS

    return str(options.address or os.environ.get("RAY_API_SERVER_ADDRESS") or ADDRESS)


def submit(options: argparse.Namespace) -> int:
    from bench.cluster import submission

    if "--address" in options.options:
        raise BenchError("submit: --address comes before the suite, what follows it is pytest's")
    print(submission.submit(address(options), options.suite, options.options))
    return 0


def status(options: argparse.Namespace) -> int:
    from bench.cluster import submission

    for line in submission.status(address(options), options.job) or ["no job was submitted"]:
        print(line)
    return 0
