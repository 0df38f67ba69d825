"""``python -m bench cache``: what is kept, and pruning it."""

from __future__ import annotations

import argparse

from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser("cache", help="size and age of what is kept, and pruning it")
    command.add_argument("--limit", default="2GB", help="what the cache may hold. Default: 2GB")
    command.add_argument(
        "--prune", action="store_true", help="delete the least recently used above the limit"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.store import cache
    from fixtures.places import cache_folder

    folder, limit = cache_folder(), cache.parse_size(options.limit)
    found = cache.entries(folder)
    if options.prune:
        gone = cache.prune(cache.surplus(found, limit))
        print(f"deleted {len(gone)} entries, {cache.show_size(sum(e.size for e in gone))}")
        found = cache.entries(folder)
    for line in cache.lines(folder, found, limit):
        print(line)
    return 0
