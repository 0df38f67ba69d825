"""The benchmark's options on pytest's command line; `bench.harness.settings` reads them."""

from __future__ import annotations

import pytest


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("triggerbench", "triggerbench: attacks x defenses")
    glob = "a name, a glob like 'p*', or several separated by commas"
    group.addoption(
        "--dataset",
        default="auto",
        help=f"data set: {glob}. Default: auto, which takes mnist where it lies in the data folder "
        "or can be downloaded, otherwise the digits that scikit-learn carries. Parameters follow a "
        "plus sign: folder+path=DIR_OR_ZIP+size=64+name=birds",
    )
    group.addoption(
        "--model",
        default="simplecnn",
        help=f"model: {glob}. Default: simplecnn. Parameters likewise: vit+depth=6",
    )
    group.addoption(
        "--recipe",
        default=None,
        help="how victims are trained: a recipe with changes, like sgd+epochs=3; `python -m bench "
        "list` names them. Default: what data set and model ask for",
    )
    group.addoption(
        "--suite",
        default=None,
        help=f"which cross: {glob}; `python -m bench list` names them. Default: study, or all "
        "where --attack or --defense is given",
    )
    group.addoption(
        "--suite-file",
        action="append",
        default=[],
        metavar="FILE",
        help="run the suite that a TOML file of yours declares; may be given several times",
    )
    group.addoption(
        "--attack",
        default=None,
        help=f"attacks, instead of the suite's: {glob}. 'none' is the clean model; parameters "
        "follow a plus sign: pixel+mapping=all2all",
    )
    group.addoption(
        "--defense",
        default=None,
        help=f"defenses, instead of the suite's: {glob}. 'none' gives the attack's own figures; "
        "parameters likewise",
    )
    group.addoption(
        "--seeds",
        default="1",
        help="how many seeds, or which: 3 runs seeds 0, 1 and 2; 0,4,7 runs those; 4, runs seed 4 "
        "alone. Default: 1",
    )
    group.addoption(
        "--poison-rate",
        default=None,
        help="shares of the training set to poison, e.g. 0.01,0.03,0.1: every attack is run at "
        "each. Default: each attack's own, 0.03 for the built-in ones",
    )
    group.addoption(
        "--clean",
        default=None,
        help="clean images of each class that a defender has, e.g. 10,25,50,250 or all: every "
        "defense that sees any is run with each. Default: the data set's own budget",
    )
    group.addoption(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N. Default: auto, a GPU if any"
    )
    group.addoption(
        "--executor",
        default="serial",
        metavar="WHERE",
        help="serial; ray: a cluster on this machine, or that of $RAY_ADDRESS; ray://HOST:PORT: "
        "that one. +gpus=0.5 of a GPU and +memory=4 GiB are what one run takes. Default: serial",
    )
    group.addoption(
        "--data-dir",
        default=None,
        help="folder of the data sets, e.g. the one that holds MNIST/raw. "
        "Default: $TRIGGERBENCH_DATA, else the user's data folder",
    )
    group.addoption(
        "--results-dir",
        default=None,
        help="where records, tables, figures and report.md go. Default: results/latest",
    )
    group.addoption(
        "--baseline",
        default=None,
        help="compare with what was accepted, e.g. results/baseline.json, and fail where a cell "
        "has regressed or is missing",
    )
    group.addoption(
        "--strict-baseline",
        action="store_true",
        help="fail also where a cell is not comparable with the baseline",
    )
    group.addoption(
        "--cell-timeout",
        default=None,
        help="seconds that one cell may take, its training included; past that it has failed and "
        "the next one starts. A defense is ended whatever it does; a victim's training not in "
        "compiled code that never returns to Python. Default: no limit",
    )
    group.addoption(
        "--rerun",
        default="none",
        help="measure again what was measured before: none, failed, all, or a glob of cell ids. "
        "Default: none",
    )
