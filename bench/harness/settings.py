"""What the options of the command line ask for, checked: a wrong one is one line."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.runtime.deadline import parse_seconds
from fixtures.errors import BenchError

if TYPE_CHECKING:
    import pytest

    from bench.analysis.accepted import Accepted
    from bench.harness.jobs import Jobs
    from bench.spec.cell import Cell
    from bench.spec.suites import Suite


HERE = Path(__file__).resolve().parents[1]
"""The folder of the benchmark's own tests."""


USUAL = {"--dataset": "auto", "--model": "simplecnn", "--seeds": "1", "--poison-rate": None,
         "--clean": None, "--device": "auto", "--data-dir": None, "--recipe": None}  # fmt: skip
"""Options that say on what a run measures, and their defaults."""


@dataclass(frozen=True)
class Settings:
    """What the options ask for, checked.

    ``jobs``: the cells, resolved when they are asked for, with the workspace they run in.
    ``everything``: every attack against every defense, and ``whole_command`` what runs that.
    ``patterns``: the globs that chose the cells, by part of a cell. ``narrowed``: the command line
    asks for a part of the cross (``-k``, one file, one test), so what it leaves out is not missed.
    ``cell_timeout``: in seconds.
    """

    jobs: Jobs
    cells: list[Cell]
    everything: list[Cell]
    patterns: dict[str, list[str]]
    results: Path
    seeds: list[int]
    rerun: str
    command: str
    whole_command: str
    narrowed: bool = False
    baseline: dict[str, Accepted] | None = None
    strict: bool = False
    cell_timeout: float | None = None
    notes: list[str] = field(default_factory=list)


def settings_of(config: pytest.Config) -> Settings:
    """Raises BenchError, one line that names the option, its value and what would be accepted."""
    from bench.harness import budgets, selection
    from bench.harness.ids import cell_of
    from bench.harness.jobs import Jobs
    from bench.harness.selection import Axes
    from bench.harness.words import words_of
    from bench.runtime import files
    from bench.runtime.workspace import Workspace
    from bench.spec import estimates, suites
    from bench.spec.data import dataset_of
    from fixtures.blame import blamed
    from fixtures.datasets import DATASETS, data_folder, resolve
    from fixtures.models import MODELS

    option = config.getoption
    seeds = parse_seeds(option("--seeds"))
    rates = parse_rates(option("--poison-rate"))
    clean = budgets.parse(option("--clean"))
    models = selection.matching("--model", option("--model"), MODELS)
    recipe = selection.recipe_of(option("--recipe"))
    own = [_suite_file(config, name) for name in option("--suite-file")]
    named = option("--data-dir")
    with blamed("--data-dir" if named else "$TRIGGERBENCH_DATA"):
        data = data_folder(named)
    ids = _ids_of(config)
    asked, auto = option("--dataset"), option("--dataset") == "auto"
    if auto and ids and not _whole(config):  # a test's id says which data set
        names = [cell.data_name for cell in map(cell_of, ids) if cell is not None]
        auto = not names
    if auto:
        names = [resolve("auto", named)]
    elif asked != "auto":
        names = selection.matching("--dataset", asked, DATASETS, "auto")
    names = list(dict.fromkeys(names))
    axes = Axes(tuple(names), tuple(models), tuple(seeds), tuple(rates), recipe, tuple(clean))
    cells = selection.chosen(
        axes,
        suite=option("--suite"),
        suite_files=own,
        attack=option("--attack"),
        defense=option("--defense"),
        words=words_of(option("keyword", "") or ""),
        ids=ids,
    )
    workspace = Workspace(data=data if named else None, device=option("--device"))
    firsts = {cell.data_name: cell for cell in reversed(cells)}
    short: list[str] = []
    for cell in firsts.values() if not option("collectonly") else ():
        if len(firsts) == 1 or cell.dataset_path is not None or clean:
            dataset = dataset_of(cell, workspace)  # missing or damaged: told before anything runs
            short.append(budgets.shortfall(dataset, clean))
    with blamed("--device"):
        device = workspace.torch_device()
    results = Path(option("--results-dir") or config.rootpath / "results" / "latest")
    results = (config.invocation_params.dir / results).resolve()
    with blamed("--results-dir"):
        files.make_folder(results / "records")
    with blamed("the cache ($TRIGGERBENCH_CACHE)"):
        files.make_folder(workspace.cache)
    found = "found" if names == ["mnist"] else f"MNIST is not in {data} and cannot be downloaded"
    why = f" (auto: {found})" if auto else ""
    notes = [
        f"triggerbench: data set {', '.join(names)}{why}; seeds {', '.join(map(str, seeds))}; "
        f"device {device}",
        *filter(None, short),
    ]
    rerun = option("--rerun")
    if rerun not in ("none", "failed", "all") and not any(fnmatchcase(c.id, rerun) for c in cells):
        raise BenchError(f"--rerun: {rerun!r} is none of none, failed, all, and matches no cell")
    return Settings(
        jobs=Jobs(workspace, estimates.load(workspace.cache)),
        cells=cells,
        everything=selection.everything(axes),
        patterns=_patterns(option, own, names),
        results=results,
        seeds=seeds,
        rerun=rerun,
        command=shlex.join(["pytest", *config.invocation_params.args]),
        whole_command=_command_of(config, f"--suite {suites.EVERYTHING}"),
        narrowed=_narrowed(config),
        baseline=_baseline(config),
        strict=option("--strict-baseline"),
        cell_timeout=parse_seconds("--cell-timeout", option("--cell-timeout")),
        notes=notes,
    )


def _suite_file(config: pytest.Config, name: str) -> Suite:
    from bench.spec import suites

    path = config.invocation_params.dir / name
    try:
        return suites.read(path)
    except BenchError as error:
        raise BenchError(f"--suite-file: {error}") from None


def _patterns(
    option: Callable[[str], Any], own: Sequence[Suite], names: list[str]
) -> dict[str, list[str]]:
    """The globs of each side of the cross: what they match belongs to a whole run."""
    from bench.harness import selection
    from bench.spec import suites

    sides = {"attack": option("--attack"), "defense": option("--defense")}
    picked = [*(suites.named(option("--suite")) if option("--suite") else ()), *own]
    if not picked and not any(sides.values()):
        picked = suites.named(suites.STUDY)
    found = {"dataset": names, "model": selection.globs(option("--model"))}
    for side, text in sides.items():
        listed = [glob for one in picked for glob in getattr(one, f"{side}s")]
        found[side] = selection.globs(text) if text else listed or ["*"]
    return found


def _command_of(config: pytest.Config, selecting: str) -> str:
    """This run's command with another selection: the options that say where, not what."""
    plugins = [p for p in config.option.plugins or () if not p.startswith(("no:", "bench."))]
    here = "--pyargs bench -p bench.plugin" if config.option.pyargs else "bench"
    python = "python -m pytest" if plugins or config.option.pyargs else "pytest"
    kept = [word for plugin in plugins for word in ("-p", plugin)]
    for name, usual in USUAL.items():
        value = config.getoption(name)
        if value != usual:
            kept += [name, str(value)]
    return " ".join([python, here, selecting, shlex.join(kept)]).strip()


def _ids_of(config: pytest.Config) -> list[str]:
    """The cells that tests on the command line name: ``...::test_repair[ID]`` -> ID."""
    return [cell_id(argument) for argument in config.args if cell_id(argument)]


def cell_id(nodeid: str) -> str:
    """The cell that a test is of: ``bench/test_x.py::test_x[ID]`` -> ``ID``; empty for none."""
    return nodeid.partition("[")[2].rpartition("]")[0]


def paths_of(config: pytest.Config) -> list[Path]:
    """The files and folders that the command line names, a test's own name left off."""
    return [_path_of(config, argument.partition("::")[0]) for argument in config.args]


def _path_of(config: pytest.Config, name: str) -> Path:
    """What pytest collects for a name: with ``--pyargs`` an installed package, if there is one."""
    if config.option.pyargs:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # a path
            spec = None
        if spec is not None and spec.origin is not None:
            found = Path(spec.origin).resolve()
            return found.parent if spec.submodule_search_locations else found
    return (config.invocation_params.dir / name).resolve()


def benchmark_selected(config: pytest.Config) -> bool:
    """Whether the command line names the benchmark, a part of it or a folder around it."""
    return any(
        path == HERE or HERE in path.parents or path in HERE.parents for path in paths_of(config)
    )


def _whole(config: pytest.Config) -> bool:
    """Whether the command line names the benchmark's folder, not only files or tests in it."""
    return any(path == HERE or path in HERE.parents for path in paths_of(config))


def _narrowed(config: pytest.Config) -> bool:
    options = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise")
    return not _whole(config) or any(config.getoption(option, None) for option in options)


def _baseline(config: pytest.Config) -> dict[str, Accepted] | None:
    named = config.getoption("--baseline")
    if named is None:
        if config.getoption("--strict-baseline"):
            raise BenchError("--strict-baseline: there is no --baseline to be strict about")
        return None
    from bench.analysis import accepted

    try:
        return accepted.load(config.invocation_params.dir / named)
    except BenchError as error:
        raise BenchError(f"--baseline: {error}") from error


def parse_seeds(text: str) -> list[int]:
    """``"3"`` -> [0, 1, 2]; ``"0,4,7"`` -> [0, 4, 7]; ``"4,"`` -> [4].

    Raises BenchError for anything else.
    """
    listed = "," in text
    try:
        numbers = [int(part) for part in text.removesuffix(",").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and not listed and numbers[0] > 0:
        return list(range(numbers[0]))
    if listed and numbers and min(numbers) >= 0 and len(set(numbers)) == len(numbers):
        return numbers
    raise BenchError(f"--seeds: {text!r} is neither a count like 3 nor different seeds like 0,4,7")


def parse_rates(text: str | None) -> list[float]:
    """``"0.01,0.1"`` -> [0.01, 0.1]; None -> []. Raises BenchError for anything else."""
    if text is None:
        return []
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or len(set(rates)) < len(rates) or not all(0 < rate <= 1 for rate in rates):
        raise BenchError(
            f"--poison-rate: {text!r} is not a list of different shares like 0.01,0.03,0.1"
        )
    return rates
