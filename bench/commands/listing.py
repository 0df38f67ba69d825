"""``python -m bench list``: what there is."""

from __future__ import annotations

import argparse

from bench.commands.parsing import Subparsers


def add(commands: Subparsers) -> None:
    command = commands.add_parser("list", help="every plugin, recipe and suite there is")
    command.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    from attacks import ATTACKS
    from bench.spec import defaults, suites
    from bench.spec.cell import kind_of, sees
    from bench.spec.opponents import defeated_by
    from defenses import DEFENSES
    from fixtures.datasets import DATASETS
    from fixtures.models import MODELS
    from fixtures.recipes import RECIPES

    for registry in (DATASETS, MODELS, RECIPES, ATTACKS, DEFENSES):
        print(f"{registry.kind}s:")
        for name in registry.names():
            entry = registry[name]
            about = ""
            if registry is ATTACKS and (evades := ATTACKS[name].info.made_against):
                about = f" [made against {', '.join(evades)}]"
            if registry is DEFENSES:
                null = "; null" if DEFENSES[name].info.null else ""
                opponents = ", ".join(defeated_by(name))
                known = f"; defeated by {opponents}" if opponents else ""
                about = f" [{kind_of(name)}; sees {sees(name)}{null}{known}]"
            elif registry is DATASETS and (clean := defaults.clean(name)) is not None:
                about = f" [{clean} clean images of each class for a defender]"
            source = f" ({entry.info.source})" if entry.info.source else ""
            print(f"  {name:22}{about} {entry.summary}{source}")
        for prefix, info in registry.families().items():
            print(f"  {prefix + ':NAME':22} Whatever {prefix} has under that name. ({info.source})")
    print("suites:")
    for suite in suites.named("*"):
        print(f"  {suite.name:22} {suite.about}")
    return 0
