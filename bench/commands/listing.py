"""``python -m bench list``: what there is."""

from __future__ import annotations

import argparse

from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser("list", help="every data set, model, attack, defense and suite")
    command.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    from attacks import ATTACKS
    from bench.spec import suites
    from bench.spec.cell import kind_of
    from defenses import DEFENSES
    from fixtures.datasets import DATASETS
    from fixtures.models import MODELS

    for registry in (DATASETS, MODELS, ATTACKS, DEFENSES):
        print(f"{registry.kind}s:")
        for name in registry.names():
            entry = registry[name]
            kind = f" [{kind_of(name)}]" if registry is DEFENSES else ""
            source = f" ({entry.info.source})" if entry.info.source else ""
            print(f"  {name:22}{kind} {entry.summary}{source}")
    print("suites:")
    for suite in suites.named("*"):
        print(f"  {suite.name:22} {suite.about}")
    return 0
