"""``python -m bench tune``: a defense at a few settings, on validation images."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from bench.commands.parsing import RESULTS, Subparsers
from fixtures.errors import BenchError


def add(commands: Subparsers) -> None:
    command = commands.add_parser(
        "tune", help="a defense at a few settings on validation images: which does best, and how "
        "much depends on it"
    )  # fmt: skip
    command.add_argument("defense", metavar="DEFENSE")
    command.add_argument("--param", action="append", default=[], metavar="NAME=V1,V2,V3",
                         help="instead of the grid that the defense declares; given once or "
                         "twice")  # fmt: skip
    command.add_argument("--dataset", default="digits", help="Default: digits")
    command.add_argument("--model", default="simplecnn", help="Default: simplecnn")
    command.add_argument("--attack", help="at most three. Default: the study's plainest three")
    command.add_argument("--seeds", default="101,102",
                         help="a count or a list. Default: 101,102, which no study "
                         "reports")  # fmt: skip
    command.add_argument("--clean", metavar="N", help="clean images of each class that the defender"
                         " has, or all. Default: the data set's")  # fmt: skip
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    command.add_argument("--data-dir", type=Path, help="folder that holds MNIST/raw")
    command.add_argument("--results-dir", type=Path, default=RESULTS / "latest", metavar="FOLDER",
                         help="Default: results/latest")  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from bench.analysis.sensitivity import sensitivities
    from bench.analysis.series import measured
    from bench.harness import tuning
    from bench.report import sensitivity
    from bench.runtime import files
    from bench.runtime.workspace import Workspace
    from fixtures.blame import blamed

    asked = tuning.asked(
        options.defense,
        params=options.param,
        dataset=options.dataset,
        model=options.model,
        attack=options.attack,
        seeds=options.seeds,
        clean=options.clean,
    )
    workspace = Workspace(data=options.data_dir, device=options.device)
    cells = asked.cells
    with blamed("--results-dir"):
        files.make_folder(options.results_dir / "records")
    records = tuning.measure(cells, workspace, options.results_dir, _command(options), print)
    found = sensitivities(measured(records, "validation"))
    if not found:
        raise BenchError(
            f"tune: nothing to compare: on no victim of an attack that took has "
            f"{options.defense} a figure at its default and at another setting"
        )
    for path in sensitivity.write(found, options.results_dir):
        print(path)
    for line in sensitivity.said(found[0]):
        print(line)
    return 0 if len(records) == len(cells) else 1


def _command(options: argparse.Namespace) -> str:
    """What was asked for, as people may ask again: without where data and results are."""
    words = ["python", "-m", "bench", "tune", options.defense]
    for name in ("dataset", "model", "attack", "seeds", "clean"):
        value = getattr(options, name)
        words += [f"--{name}", value] if value is not None else []
    for text in options.param:
        words += ["--param", text]
    return shlex.join(words)
