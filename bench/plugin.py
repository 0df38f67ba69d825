"""pytest's side of the benchmark: options, parametrisation, progress and the summary.

It decides which cells run and shows what came of them; what a cell means is `bench.run`'s affair.
"""

from __future__ import annotations

import math
import shlex
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.errors import BenchError

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from bench.baseline import Accepted
    from bench.cell import Cell
    from bench.records import Record
    from bench.workspace import Workspace
    from fixtures.registry import Registry
    from fixtures.training import Progress

HERE = Path(__file__).resolve().parent
RECORD = "triggerbench_record"
"""The property that carries a record's path from the test, or its worker, to the summary."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("triggerbench", "triggerbench: attacks x defenses")
    glob = "a name, a glob like 'p*', or several separated by commas"
    group.addoption(
        "--dataset",
        default="auto",
        help=f"data set: {glob}. Default: auto, which takes mnist where it lies in the data folder "
        "or can be downloaded, otherwise the digits that scikit-learn carries",
    )
    group.addoption("--model", default="simplecnn", help=f"model: {glob}. Default: simplecnn")
    group.addoption(
        "--attack", default="*", help=f"attacks: {glob}. 'none' is the clean model. Default: all"
    )
    group.addoption(
        "--defense",
        default="*",
        help=f"defenses: {glob}. 'none' gives the attack's own figures. Default: all",
    )
    group.addoption(
        "--seeds",
        default="1",
        help="how many seeds, or which: 3 runs seeds 0, 1 and 2; 0,4,7 runs those. Default: 1",
    )
    group.addoption(
        "--poison-rate",
        default=None,
        help="shares of the training set to poison, e.g. 0.01,0.03,0.1: every attack is run at "
        "each. Default: each attack's own, 0.03 for the built-in ones",
    )
    group.addoption(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N. Default: auto, a GPU if any"
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
        "the next one starts. It cannot end compiled code that never returns to Python. "
        "Default: no limit",
    )
    group.addoption(
        "--rerun",
        default="none",
        help="measure again what was measured before: none, failed, all, or a glob of cell ids. "
        "Default: none",
    )


@dataclass(frozen=True)
class Settings:
    """What the options ask for, checked.

    ``patterns``: the globs that chose the cells, by part of a cell. ``cell_timeout``: in seconds.
    """

    at: Workspace
    cells: list[Cell]
    patterns: dict[str, list[str]]
    results: Path
    seeds: list[int]
    rerun: str
    command: str
    baseline: dict[str, Accepted] | None = None
    strict: bool = False
    cell_timeout: float | None = None
    notes: list[str] = field(default_factory=list)


SETTINGS = pytest.StashKey[Settings]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Check the options before anything is collected: a wrong one is one line and exit code 4."""
    config = session.config
    if not _benchmark_selected(config):
        return
    try:
        settings = config.stash[SETTINGS] = _settings(config)
    except BenchError as error:
        raise pytest.UsageError(str(error)) from None
    if not hasattr(config, "workerinput"):  # under xdist the workers only measure
        from bench.summary import Summary

        summary = Summary(settings, narrowed=_narrowed(config))
        config.pluginmanager.register(summary, "triggerbench-summary")


def _benchmark_selected(config: pytest.Config) -> bool:
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        if path == HERE or HERE in path.parents or path in HERE.parents:
            return True
    return False


def _narrowed(config: pytest.Config) -> bool:
    """Whether the command line asks for a part of the cross: -k, -m, one file or one test."""
    option = config.getoption
    paths = [config.invocation_params.dir / argument for argument in config.args]
    whole = any(path.resolve() == HERE or path.resolve() in HERE.parents for path in paths)
    names = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise")
    return not whole or any(option(name, None) for name in names)


def _settings(config: pytest.Config) -> Settings:
    from attacks import ATTACKS
    from bench import files
    from bench.cell import cross
    from bench.contracts import blamed
    from bench.workspace import Workspace
    from defenses import DEFENSES
    from fixtures.datasets import DATASETS, data_folder, load, resolve
    from fixtures.models import MODELS

    option = config.getoption
    seeds = parse_seeds(option("--seeds"))
    rates = parse_rates(option("--poison-rate"))
    models = _matching("--model", option("--model"), MODELS)
    attacks = _matching("--attack", option("--attack"), ATTACKS)
    defenses = _matching("--defense", option("--defense"), DEFENSES, "none")
    if any(fnmatchcase("none", pattern) for pattern in _globs(option("--defense"))):
        defenses.insert(0, "none")  # the attack's own figures
    named = option("--data-dir")
    with blamed("--data-dir" if named else "$TRIGGERBENCH_DATA"):
        data = data_folder(named)
    asked = option("--dataset")
    auto = asked == "auto"
    names = [resolve("auto", named)] if auto else _matching("--dataset", asked, DATASETS, "auto")
    if len(names) == 1 and not option("collectonly"):
        load(names[0], named)  # missing or damaged: told once, before anything runs
    at = Workspace(data=data if named else None, device=option("--device"))
    with blamed("--device"):
        device = at.torch_device()
    results = Path(option("--results-dir") or config.rootpath / "results" / "latest")
    results = (config.invocation_params.dir / results).resolve()
    with blamed("--results-dir"):
        files.make_folder(results / "records")
    with blamed("the cache ($TRIGGERBENCH_CACHE)"):
        files.make_folder(at.cache)
    found = "found" if names == ["mnist"] else f"MNIST is not in {data} and cannot be downloaded"
    why = f" (auto: {found})" if auto else ""
    notes = [
        f"triggerbench: data set {', '.join(names)}{why}; seeds {', '.join(map(str, seeds))}; "
        f"device {device}",
    ]
    cells = cross(names, models, attacks, _of_a_kind(defenses), seeds, rates)
    rerun = option("--rerun")
    if rerun not in ("none", "failed", "all") and not any(fnmatchcase(c.id, rerun) for c in cells):
        raise BenchError(f"--rerun: {rerun!r} is none of none, failed, all, and matches no cell")
    return Settings(
        at=at,
        cells=cells,
        patterns={
            "dataset": names,
            "model": _globs(option("--model")),
            "attack": _globs(option("--attack")),
            "defense": _globs(option("--defense")),
        },
        results=results,
        seeds=seeds,
        rerun=rerun,
        command=shlex.join(["pytest", *config.invocation_params.args]),
        baseline=_baseline(config),
        strict=option("--strict-baseline"),
        cell_timeout=parse_timeout(option("--cell-timeout")),
        notes=notes,
    )


def _baseline(config: pytest.Config) -> dict[str, Accepted] | None:
    from bench import baseline

    named = config.getoption("--baseline")
    if named is None:
        if config.getoption("--strict-baseline"):
            raise BenchError("--strict-baseline: there is no --baseline to be strict about")
        return None
    try:
        return baseline.load(config.invocation_params.dir / named)
    except BenchError as error:
        raise BenchError(f"--baseline: {error}") from error


def _of_a_kind(defenses: list[str]) -> list[str]:
    """Without those that are no defense at all, each named in a warning."""
    from bench.cell import kind_of

    kept = []
    for name in defenses:
        try:
            if name != "none":
                kind_of(name)
            kept.append(name)
        except BenchError as error:
            warnings.warn(str(error), stacklevel=2)
    return kept


def _globs(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _matching(
    option: str, text: str, registry: Registry[Any], also: str | None = None
) -> list[str]:
    """The registered names that an option's globs select. BenchError for a glob without any.

    ``also``: a word that the option understands though no plugin carries it.
    """
    chosen = []
    for pattern in _globs(text):
        found = registry.names(pattern)
        if not found and not (also == "none" and fnmatchcase(also, pattern)):
            hint = f" (also: {also})" if also else ""
            raise BenchError(f"{option}: {registry.unknown(pattern)}{hint}")
        chosen += found
    return list(dict.fromkeys(chosen))


def parse_seeds(text: str) -> list[int]:
    """``"3"`` -> [0, 1, 2]; ``"0,4,7"`` -> [0, 4, 7]. Raises BenchError for anything else."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and "," not in text and numbers[0] > 0:
        return list(range(numbers[0]))
    if len(numbers) > 1 and min(numbers) >= 0 and len(set(numbers)) == len(numbers):
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


def parse_timeout(text: str | None) -> float | None:
    """``"90"`` -> 90.0 seconds; None -> no limit. Raises BenchError for anything else."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise BenchError(f"--cell-timeout: {text!r} is not a number of seconds like 90")
    return seconds


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    settings = metafunc.config.stash.get(SETTINGS, None)
    if settings is not None and "cell" in metafunc.fixturenames:
        kind = getattr(metafunc.module, "KIND", None)
        cells = [cell for cell in settings.cells if cell.kind == kind]
        metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A kind of test without cells (say, --defense none) is no test rather than a skipped one."""
    items[:] = [item for item in items if not _is_placeholder(item)]


def _is_placeholder(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and "NOTSET" in item.name and "cell" in callspec.params


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    settings = config.stash.get(SETTINGS, None)
    return settings.notes if settings is not None else []


@pytest.fixture
def judged(
    request: pytest.FixtureRequest,
    benchmark: Any,
    record_property: Callable[[str, object], None],
) -> Callable[[Cell], None]:
    """Run a cell through pytest-benchmark, save its record, and fail where a gate does not hold.

    A failure is told in one line, without a traceback: what, by how much, and where to look.
    """

    def judge(cell: Cell) -> None:
        from bench.deadline import CellTimeout, deadline
        from bench.run import cached, run
        from bench.victims import victim

        settings = request.config.stash[SETTINGS]
        rerun = _rerun(settings, cell)
        # Should this attempt fail, an earlier one's record must not pass for it.
        (settings.results / "records" / f"{cell.id}.json").unlink(missing_ok=True)
        complaint = ""
        with _Progress(request.config, cell) as progress:
            try:
                with deadline(settings.cell_timeout):
                    if cell.defense != "none" and (rerun or cached(cell, settings.at) is None):
                        victim(cell, settings.at, progress=progress)  # not part of defending's time
                    record: Record = benchmark.pedantic(
                        run,
                        args=(cell, settings.at),
                        kwargs={"rerun": rerun, "progress": progress},
                        rounds=1,
                    )
                    record.command = settings.command
                    path = record.save(record.path(settings.results))
            except BenchError as error:
                complaint = str(error)
            except CellTimeout:
                complaint = f"took longer than --cell-timeout {settings.cell_timeout:g} s"
        if complaint:
            pytest.fail(f"{cell.id}: {complaint}", pytrace=False)
        benchmark.extra_info.update(
            cell=cell.id, reused=record.reused, **record.timings, **record.metrics
        )
        record_property(RECORD, str(path))
        for name, value in record.metrics.items():
            record_property(name, value)
        if record.failures and len(settings.seeds) == 1:  # several are judged by their mean
            lines = [f"{cell.id}: {gate}" for gate in record.failures]
            pytest.fail("\n".join([*lines, f"record: {path}"]), pytrace=False)

    return judge


def _rerun(settings: Settings, cell: Cell) -> bool:
    from bench import records
    from bench.records import BadRecord

    if settings.rerun in ("none", "all"):
        return settings.rerun == "all"
    if settings.rerun == "failed":
        path = settings.results / "records" / f"{cell.id}.json"
        try:
            return path.exists() and bool(records.load(path).failures)
        except BadRecord:
            return True
    return fnmatchcase(cell.id, settings.rerun)


class _Progress:
    """On a terminal, one line that is overwritten after every epoch; elsewhere silence."""

    def __init__(self, config: pytest.Config, cell: Cell) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._reporter: TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
        self._cell = cell
        self._shown = False

    def __enter__(self) -> Progress | None:
        terminal = self._reporter is not None and self._reporter.isatty
        return self._show if terminal and sys.stdout is not None else None

    def _show(self, epoch: int, epochs: int, loss: float) -> None:
        self._write(
            f"\r  training for {self._cell.id}: epoch {epoch}/{epochs}, loss {loss:.4f}\x1b[K"
        )
        self._shown = True

    def _write(self, text: str) -> None:
        if self._reporter is not None:
            with self._capture.global_and_fixture_disabled():
                self._reporter.write(text, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._write("\r\x1b[K")
