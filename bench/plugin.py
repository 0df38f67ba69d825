"""pytest's hooks: what the benchmark does at each stage of a run.

The parts are in `bench.harness`: options, settings, jobs and their schedule, the test of a cell,
progress, summary. What a cell means is `bench.measure`'s affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from bench.harness import workers
from bench.harness.options import add_options
from bench.harness.settings import Settings, benchmark_selected, cell_id, settings_of
from fixtures.errors import BenchError

if TYPE_CHECKING:
    from bench.harness.progress import Progress
    from bench.spec.cell import Cell

SETTINGS = pytest.StashKey[Settings]()
PROGRESS = "triggerbench-progress"
"""The name of the plugin that tells how far a run is; under xdist only the controller has it."""
EXECUTOR = "triggerbench-executor"
"""The name of the plugin that measures cells elsewhere, where one does."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if benchmark_selected(config):
        workers.choose_mode(config)
        if config.getoption("--executor") != "serial":
            config.option.benchmark_disable = True  # a test waits, which is no cell's time


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        if benchmark_selected(config):
            workers.keep_to(config.workerinput.get(workers.CORES, []))
    elif config.pluginmanager.hasplugin("xdist"):
        controller = workers.Controller(lambda: config.stash[SETTINGS])
        config.pluginmanager.register(controller, "triggerbench-workers")


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
        if config.getoption("--executor") != "serial":
            _elsewhere(config, settings, progress)


def _elsewhere(config: pytest.Config, settings: Settings, progress: Progress) -> None:
    from bench.cluster import nodes
    from bench.cluster.run import ClusterRun

    try:
        how = nodes.asked(config.getoption("--executor"))
        nodes.library()
        if getattr(config.option, "numprocesses", None):
            raise BenchError("--executor: a cluster has its own workers, so leave -n out")
    except BenchError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(ClusterRun(settings, how, progress), EXECUTOR)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    settings = metafunc.config.stash.get(SETTINGS, None)
    if settings is not None and "cell" in metafunc.fixturenames:
        kind = getattr(metafunc.module, "KIND", None)
        cells = [cell for cell in settings.cells if cell.kind == kind]
        metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests that are left after ``-k`` and the like, in the order of a serial run's schedule.

    A kind of test without cells (say, --defense none) is no test rather than a skipped one.
    """
    settings = config.stash.get(SETTINGS, None)
    if settings is None:
        return
    items[:] = [item for item in items if not _is_placeholder(item)]
    if hasattr(config, "workerinput") or config.option.collectonly:
        return  # the controller says which test comes next, or none is run
    from bench.harness.schedule import in_order

    wanted = {cell_id(item.nodeid) for item in items}
    known = (settings.jobs.known(cell) for cell in settings.cells if cell.id in wanted)
    ordered = in_order(job for job in known if job is not None)
    place = {job.cell.id: at for at, job in enumerate(ordered)}
    items.sort(key=lambda item: place.get(cell_id(item.nodeid), len(place)))


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
    """What a test calls with its cell, see `bench.harness.celltest`."""
    from bench.harness.celltest import judge

    settings = request.config.stash[SETTINGS]
    progress = request.config.pluginmanager.getplugin(PROGRESS)
    executor = request.config.pluginmanager.getplugin(EXECUTOR)
    return lambda cell: judge(cell, settings, progress, benchmark, record_property, executor)
