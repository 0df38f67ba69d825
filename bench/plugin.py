"""pytest's side of the benchmark: options, parametrisation, and one test for each cell.

`bench.harness.settings` reads the options, `bench.harness.summary` tells what came of the run;
what a cell means is `bench.measure`'s affair.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

from bench.harness import workers
from bench.harness.settings import Settings, benchmark_selected, cell_id, settings_of
from fixtures.errors import BenchError

if TYPE_CHECKING:
    from bench.spec.cell import Cell
    from bench.store.records import Record
    from fixtures.training import Progress as TrainingProgress


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


SETTINGS = pytest.StashKey[Settings]()
PROGRESS = "triggerbench-progress"
"""The name of the plugin that tells how far a run is; under xdist only the controller has it."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if benchmark_selected(config):
        workers.choose_mode(config)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        if benchmark_selected(config):
            workers.keep_to(config.workerinput.get(workers.CORES, []))
    elif config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(workers.Controller(), "triggerbench-workers")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Check the options before anything is collected: a wrong one is one line and exit code 4."""
    config = session.config
    if not benchmark_selected(config):
        return
    try:
        settings = config.stash[SETTINGS] = settings_of(config)
    except BenchError as error:
        raise pytest.UsageError(str(error)) from None
    # Under xdist the workers only measure, and of what is only collected there is nothing to tell.
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        from bench.harness.progress import Progress
        from bench.harness.summary import Summary

        progress = Progress(settings, config)
        config.pluginmanager.register(progress, PROGRESS)
        config.pluginmanager.register(Summary(settings, progress), "triggerbench-summary")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    settings = metafunc.config.stash.get(SETTINGS, None)
    if settings is not None and "cell" in metafunc.fixturenames:
        kind = getattr(metafunc.module, "KIND", None)
        cells = [cell for cell in settings.cells if cell.kind == kind]
        metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of one victim together, so that it is trained or loaded once.

    A kind of test without cells (say, --defense none) is no test rather than a skipped one.
    """
    settings = config.stash.get(SETTINGS, None)
    if settings is None:
        return
    place = {cell.id: at for at, cell in enumerate(settings.cells)}
    kept = [item for item in items if not _is_placeholder(item)]
    items[:] = sorted(kept, key=lambda item: place.get(cell_id(item.nodeid), len(place)))


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
        from bench.analysis import gates
        from bench.harness.progress import REUSED, TRAINED, VERDICT
        from bench.harness.summary import RECORD
        from bench.measure import cached, run
        from bench.runtime.deadline import CellTimeout, deadline
        from bench.victims.provide import victim

        settings = request.config.stash[SETTINGS]
        rerun = _rerun(settings, cell)
        show = _shower(request.config, cell)
        # Should this attempt fail, an earlier one's record must not pass for it.
        (settings.results / "records" / f"{cell.id}.json").unlink(missing_ok=True)
        complaint = ""
        try:
            with deadline(settings.cell_timeout):
                if cell.defense != "none" and (rerun or cached(cell, settings.at) is None):
                    victim(cell, settings.at, progress=show)  # not part of defending's time
                record: Record = benchmark.pedantic(
                    run,
                    args=(cell, settings.at),
                    kwargs={"rerun": rerun, "progress": show},
                    rounds=1,
                )
                record.command = settings.command
                path = record.save(record.path(settings.results))
            missed = [gate for gate in gates.judged([record]) if not gate.passed]
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
        # Several seeds are judged by their mean, at the end.
        alone = len(settings.seeds) == 1
        record_property(VERDICT, gates.verdict([record]) if alone else "measured")
        record_property(REUSED, record.reused)
        trained = record.victim == "trained" and not record.reused
        record_property(TRAINED, record.timings["train_s"] if trained else 0.0)
        for name, value in record.metrics.items():
            record_property(name, value)
        if missed and alone:
            lines = [f"{cell.id}: {gate}" for gate in missed]
            pytest.fail("\n".join([*lines, f"record: {path}"]), pytrace=False)

    return judge


def _rerun(settings: Settings, cell: Cell) -> bool:
    from bench.analysis import gates
    from bench.store import records
    from bench.store.records import BadRecord

    if settings.rerun in ("none", "all"):
        return settings.rerun == "all"
    if settings.rerun == "failed":
        path = settings.results / "records" / f"{cell.id}.json"
        try:
            return path.exists() and gates.verdict([records.load(path)]) == "fail"
        except BadRecord:
            return True
    return fnmatchcase(cell.id, settings.rerun)


def _shower(config: pytest.Config, cell: Cell) -> TrainingProgress | None:
    """What shows a training's epochs on the terminal; None where there is none."""
    progress = config.pluginmanager.getplugin(PROGRESS)
    if progress is None:
        return None

    def show(epoch: int, epochs: int, loss: float) -> None:
        progress.show(f"epoch {epoch}/{epochs} (loss {loss:.3f}) for {cell.id}")

    progress.show(cell.id)
    return show
