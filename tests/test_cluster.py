"""A run on a Ray cluster: the same figures as a serial run, whatever ends in the middle of it."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
import torch

from bench import Cell
from bench.__main__ import main
from bench.cluster import nodes, parcels, sharing, tasks
from bench.cluster.ends import Ended, Ends
from bench.cluster.nodes import Asked, Node
from bench.cluster.order import Order
from bench.cluster.shares import Shares
from bench.cluster.tally import Tally
from bench.cluster.tasks import About, Surroundings
from bench.measure import resolve, run
from bench.runtime.workspace import Workspace
from bench.spec.cell import cross
from bench.spec.job import Job, VictimJob
from bench.store import records
from bench.victims import victim
from fixtures import datasets, exchange
from fixtures.errors import BenchError

CHECKOUT = Path(__file__).resolve().parents[1]
PART = ["--dataset=tiny", "--attack=none,pixel", "--defense=none,fine_tuning,largest_class"]
HEAD, OTHER, THIRD = 2, 3, 4
"""Nodes, by the last part of their loopback address."""


@pytest.fixture
def jobs(tmp_path):
    def jobs(attacks, defenses, seeds=(0,)):
        workspace = Workspace(cache=tmp_path / "cache", device="cpu")
        cells = cross(["tiny"], ["simplecnn"], attacks, defenses, seeds)
        return [resolve(cell, workspace) for cell in cells]

    return jobs


def seconds(task):
    return 10.0 if isinstance(task, VictimJob) else 1.0


def names(tasks):
    return [f"{'train ' * isinstance(t, VictimJob)}{t.cell.attack}/{t.cell.defense}" for t in tasks]


def drained(order, slots="ab"):
    """Every task in the order in which it was given out; each ends before the next begins."""
    found = []
    while len(order):
        for slot in slots:
            task = order.next(slot)
            if task is not None:
                found.append(task)
                order.done(task)
    return found


def test_first_the_victim_is_trained_that_most_cells_need(jobs):
    order = Order(jobs(["none", "pixel", "noise"], ["none", "fine_tuning"]), set(), seconds)
    assert names([order.next("a")]) == ["train none/none"]


def test_two_slots_train_two_victims_and_none_waits_for_the_other(jobs):
    order = Order(jobs(["none", "pixel"], ["fine_tuning"]), set(), seconds)
    first, second = order.next("a"), order.next("b")
    assert sorted(names([first, second])) == ["train none/none", "train pixel/none"]
    assert order.next("c") is None
    order.done(first)
    assert names([order.next("c")]) == ["none/fine_tuning"]


def test_a_slot_goes_on_with_the_victim_that_it_trained(jobs):
    order = Order(jobs(["none", "pixel"], ["none", "largest_class"]), set(), seconds)
    trained = order.next("a")
    order.done(trained)
    assert order.next("a").cell.attack == trained.cell.attack


def test_of_cells_that_are_ready_the_longest_comes_first(jobs):
    given = jobs(["pixel"], ["largest_class", "strip", "confidence"])
    long = {"strip": 5.0, "confidence": 9.0}
    order = Order(given, {given[0].victim.key}, lambda task: long.get(task.cell.defense, 1.0))
    assert [task.cell.defense for task in drained(order, "a")] == [
        "confidence", "strip", "largest_class",
    ]  # fmt: skip


def test_what_is_near_comes_before_what_is_not(jobs):
    given = jobs(["pixel", "noise"], ["strip"])
    there = {job.victim.key for job in given}
    near = Order(given, there, seconds).next("a", near={given[1].victim.key})
    assert near.cell.attack == given[1].cell.attack


def test_every_task_is_given_out_once(jobs):
    given = jobs(["none", "pixel", "noise"], ["none", "strip", "fine_tuning"], seeds=(0, 1))
    found = drained(Order(given, set(), seconds), "abc")
    cells = [task.cell.id for task in found if isinstance(task, Job)]
    assert sorted(cells) == sorted(job.cell.id for job in given)
    victims = [task.key for task in found if isinstance(task, VictimJob)]
    assert sorted(victims) == sorted({need.key for job in given for need in job.needs})


def test_a_task_that_was_not_run_is_given_out_again(jobs):
    order = Order(jobs(["none"], ["strip"]), set(), seconds)
    lost = order.next("a")
    order.again(lost)
    assert order.next("b") is lost
    order.done(lost)
    cell = order.next("b")
    order.again(cell)
    assert order.next("a") is cell


def test_of_a_victim_that_cannot_be_trained_every_cell_is_lost(jobs):
    order = Order(jobs(["none", "pixel"], ["strip", "fine_tuning"]), set(), seconds)
    clean = order.next("a")
    assert clean.cell.attack == "none"
    lost = order.failed(clean)
    assert sorted(names(lost)) == ["none/fine_tuning", "none/strip", "pixel/fine_tuning"]
    assert names(drained(order)) == ["train pixel/none", "pixel/strip"]


def test_all_seeds_of_an_attack_are_measured_by_nodes_of_one_kind(jobs):
    given = jobs(["none", "pixel", "noise", "blur"], ["none", "strip"], seeds=(0, 1, 2))
    units = sharing.units_of(given)
    assert sorted(map(len, units.values())) == [6, 6, 6, 6]
    found = sharing.shared_out(units, {("a",): 3.0, ("b",): 1.0}, lambda _: 1.0)
    assert sorted(found.values()) == [("a",), ("a",), ("a",), ("b",)]
    assert found.keys() == units.keys()


def test_a_kind_that_has_records_of_an_attack_measures_the_rest_of_it(jobs):
    units = sharing.units_of(jobs(["none", "pixel"], ["strip"], seeds=(0, 1)))
    power = {("a",): 9.0, ("b",): 1.0}

    def stored(kind, some):
        return int(kind == ("b",) and some[0].cell.attack == "pixel")

    found = sharing.shared_out(units, power, lambda _: 1.0, stored=stored)
    assert sorted(found.values()) == [("a",), ("b",)]


def test_a_kind_without_a_library_is_given_nothing_that_needs_it(jobs):
    units = sharing.units_of(jobs(["pixel"], ["strip"]))
    assert sharing.shared_out(units, {("a",): 1.0}, lambda _: 1.0, able=lambda *_: False) == {}


def node(name, identity, **changes):
    machine = {**identity["machine"], "capability": name}
    return Node(name, About(name, "", machine, identity["versions"]), 1.0, 1.0, 0.0, 0.0)


class Nodes:
    """A fleet as a test says it is."""

    def __init__(self, *some):
        self.nodes, self.kinds = list(some), {one.kind: one for one in some}

    @property
    def power(self):
        return {one.kind: 1.0 for one in self.nodes}

    def is_gone(self, kind):
        return kind not in self.power


@pytest.fixture
def shared(jobs):
    """Shares of two attacks, two seeds each, between the nodes of a fleet."""
    given = jobs(["pixel", "noise"], ["strip"], seeds=(0, 1))
    lost = []

    def make(fleet):
        return Shares(fleet, seconds, lambda _: False, lambda job, why: lost.append((job, why)))

    make.jobs, make.lost = given, lost
    make.one, make.two = (node(name, given[0].identity) for name in ("one", "two"))
    return make


def begun(shares, where, slots=2):
    return [shares.next(where, slot, frozenset()) for slot in range(slots)]


def test_a_kind_that_comes_later_gets_what_nobody_has_begun(shared):
    fleet = Nodes(shared.one)
    shares = shared(fleet)
    shares.settle(shared.jobs, [])
    (first,) = begun(shares, shared.one, 1)
    fleet.__init__(shared.one, shared.two)
    shares.settle(shared.jobs, [first])
    mine, other = begun(shares, shared.one), begun(shares, shared.two)
    assert {task.cell.attack for task in mine if task} == {first.cell.attack}
    assert {task.cell.attack for task in other} == {"pixel", "noise"} - {first.cell.attack}


def test_of_a_kind_that_is_gone_all_cells_go_to_another_and_none_is_lost(shared):
    fleet = Nodes(shared.one, shared.two)
    shares = shared(fleet)
    shares.settle(shared.jobs, [])
    (here,), (there,) = begun(shares, shared.one, 1), begun(shares, shared.two, 1)
    fleet.nodes = [shared.two]
    left = shares.settle(shared.jobs, [there])
    assert sorted(job.cell.id for job in left) == sorted(job.cell.id for job in shared.jobs)
    assert all(job.identity["machine"]["capability"] == "two" for job in left)
    shares.again(here, shared.one)  # Ray tells late that its node is gone
    shares.settle(shared.jobs, [there])
    found = []
    while (task := shares.next(shared.two, 0, frozenset())) is not None:
        found.append(task)
        shares.done(task, shared.two)
    shares.done(there, shared.two)
    while (task := shares.next(shared.two, 0, frozenset())) is not None:
        found.append(task)
    cells = sorted(task.cell.id for task in found if isinstance(task, Job))
    assert cells == sorted(job.cell.id for job in shared.jobs)


def test_without_any_node_cells_are_given_up(shared):
    fleet = Nodes(shared.one)
    shares = shared(fleet)
    shares.settle(shared.jobs, [])
    fleet.nodes = []
    shares.settle(shared.jobs, [])
    assert {why for _, why in shared.lost} == {"no node of the cluster is left"}
    assert len(shared.lost) == len(shared.jobs)


def test_a_victim_that_is_no_more_is_trained_again_before_its_cell(jobs):
    (job,) = jobs(["pixel"], ["strip"])
    order = Order([job], {job.victim.key}, seconds)
    assert order.next("a") == job
    order.lacks(job, job.victim)
    assert order.next("a") == job.victim
    assert order.next("b") is None
    order.done(job.victim)
    assert order.next("b") == job


def test_on_another_kind_of_node_a_job_is_another_run(jobs, tmp_path):
    (job,) = jobs(["pixel"], ["fine_tuning"])
    machine = {**job.identity["machine"], "capability": "SPARC"}
    about = About("there", "", machine, {**job.identity["versions"], "torch": "9"})
    other = sharing.on(job, Node("id", about, 4.0, 8.0, 0.0, 0.0), tmp_path)
    assert other.identity["machine"]["capability"] == "SPARC"
    assert other.identity["versions"]["torch"] == "9"
    assert other.key != job.key
    assert {need.key for need in other.needs}.isdisjoint({need.key for need in job.needs})
    same = About("here", "", job.identity["machine"], job.identity["versions"])
    assert sharing.on(job, Node("id", same, 4.0, 8.0, 0.0, 0.0), job.workspace.cache) == job


def test_slots_fit_cores_memory_and_gpus():
    node = Node("id", About("", "", {}, {}), cores=8.0, memory=16.0, all_gpus=2.0, gpus=0.0)
    assert node.slots(threads=2, memory=2.0) == 4
    assert node.slots(threads=1, memory=4.0) == 4
    assert replace(node, gpus=0.5).slots(threads=1, memory=1.0) == 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ray", Asked()),
        ("ray://head:10001", Asked("ray://head:10001")),
        ("ray+gpus=0.25+memory=4", Asked("", 0.25, 4.0)),
    ],
)
def test_what_an_executor_is_asked_for(text, found):
    assert nodes.asked(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rey", "'rey' is none of serial, ray, ray://HOST:PORT"),
        ("ray://head", "'ray://head' is none of"),
        ("ray+gpus=none", "'gpus=none' is neither gpus=SHARE nor memory=GIB"),
        ("ray+cpus=2", "'cpus=2' is neither"),
        ("ray+memory=-1", "'memory=-1' is neither"),
        ("ray+memory=nan", "'memory=nan' is neither"),
        ("ray+gpus=0.00001", "gpus=1e-05 is neither a share of a GPU nor whole ones"),
        ("ray+gpus=1.5", "gpus=1.5 is neither a share"),
    ],
)
def test_an_executor_that_there_is_not_is_one_line(text, says):
    with pytest.raises(BenchError, match=re.escape(says)):
        nodes.asked(text)


def test_a_victim_arrives_whole_and_is_the_same(workspace, tmp_path):
    job = resolve(Cell("tiny", attack="pixel"), workspace).victim
    ours = victim(job.cell, workspace)
    there = Workspace(cache=tmp_path, device="cpu")
    arrived = resolve(job.cell, there).victim
    parcels.stored(arrived, parcels.packed(job))
    theirs = victim(job.cell, there)
    assert not theirs.trained
    assert torch.equal(ours.received.digests(), theirs.received.digests())
    for name, value in ours.model.state_dict().items():
        assert torch.equal(value, theirs.model.state_dict()[name])


def test_a_data_set_arrives_whole_in_arrays(cache):
    before = datasets.load("tiny")
    shipment = parcels.shipped(before)
    assert len(shipment.frame) < 30_000
    after = parcels.unpacked(shipment)
    for part in ("train", "clean", "validation", "test"):
        ours, theirs = getattr(before, part), getattr(after, part)
        assert torch.equal(ours.digests(), theirs.digests())
        assert torch.equal(ours.labels, theirs.labels)
    assert after.fingerprint == before.fingerprint
    again = parcels.unpacked(shipment)  # its files are there by now
    assert torch.equal(again.test.digests(), before.test.digests())


def test_a_module_arrives_as_it_was_sent(cache, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("from mine.inner import WORD\n")
    (tmp_path / "mine/inner.py").write_text("WORD = 'here'\n")
    with pytest.MonkeyPatch.context() as here:
        here.syspath_prepend(tmp_path)
        sent = parcels.module("mine")
    assert sorted(sent.content) == ["mine/__init__.py", "mine/inner.py"]
    path = list(sys.path)
    try:
        parcels.imported([sent])
        assert sys.modules["mine"].WORD == "here"
        assert str(cache) in sys.modules["mine"].__file__
    finally:
        sys.path[:] = path
        for name in ("mine", "mine.inner"):
            sys.modules.pop(name, None)


def test_of_what_has_ended_the_driver_keeps_next_to_nothing(jobs):
    (like,) = jobs(["pixel"], ["strip"])
    many = [replace(like, cell=replace(like.cell, seed=n)) for n in range(30_000)]
    ends, tally = Ends(), Tally()
    tracemalloc.start()
    for job in many:
        ends.put(job.cell, Ended(job.path))
        tally.ended(job, held=2.0, took=1.0, host="here")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ends.measured == 30_000
    assert kept < 300 * len(many)  # bytes; a record has thousands


def around(**changes):
    return replace(Surroundings(None, "cpu", torch.get_num_threads(), None), **changes)


def test_a_node_trains_measures_and_gives_what_a_serial_run_gives(cache, tmp_path):
    cell = Cell("tiny", attack="pixel", defense="largest_class")
    job = resolve(cell, Workspace(cache=tmp_path / "driver"))
    outcome, files = tasks.train(around(), cell, job.victim.identity)
    assert not outcome.error
    needs = [lambda: files]
    done = tasks.measure(around(), cell, job.identity, False, needs)
    (tmp_path / "record.json").write_bytes(done.record)
    assert records.load(tmp_path / "record.json").metrics == run(cell).metrics
    assert not done.reused
    assert tasks.measure(around(), cell, job.identity, False, needs).reused


def test_a_node_that_would_measure_something_else_says_what(cache):
    cell = Cell("tiny", attack="pixel")
    identity = resolve(cell).victim.identity
    other = {**identity, "code": {**identity["code"], "attack": "0"}}
    outcome, _ = tasks.train(around(), cell, other)
    assert outcome.error == "it would measure something else: code of attack"
    assert outcome.fault


def test_a_node_that_lacks_a_data_set_is_sent_it(cache, tmp_path):
    tiny = datasets.load("tiny")
    images = tmp_path / "images"
    for at, label in enumerate(tiny.test.labels.tolist()):
        for split in ("train", "test"):
            file = f"{split}/{label}/{at:03}.png"
            exchange.write_image(images, file, tiny.test.bytes(torch.tensor([at]))[0])
    here = {"path": str(images), "name": "birds"}
    identity = resolve(Cell("folder", dataset_params=here)).victim.identity
    shipment = parcels.shipped(datasets.load("folder", **here))
    params = {**here, "path": str(tmp_path / "nowhere")}
    cell = Cell("folder", dataset_params=params)
    outcome, _ = tasks.train(around(), cell, identity)
    assert outcome.lacks
    assert "does not exist" in outcome.error
    sent = {cell.data_name: ("folder", params, lambda: shipment)}
    outcome, files = tasks.train(around(sent=sent), cell, identity)
    assert outcome.error == ""
    assert set(files) == {".overlay", ".safetensors", ".json"}


def test_an_address_that_nobody_answers_is_one_line_at_once():
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(BenchError, match=r"nobody answers at 127\.0\.0\.9:1 "):
        nodes.joined(Asked("127.0.0.9:1"))
    assert time.monotonic() - began < 10


class BusyHead:
    """In place of Ray: it starts no process for the first so many drivers."""

    def __init__(self, fails):
        self.fails = fails
        self.asked = 0

    def is_initialized(self):
        return False

    def init(self, **_):
        self.asked += 1
        if self.asked <= self.fails:
            raise ConnectionError("starting the\nclient server failed")


@pytest.mark.parametrize(
    ("scheme", "fails", "asked"), [("ray://", 1, 2), ("ray://", 9, 2), ("", 9, 1)]
)
def test_a_busy_head_is_asked_once_more_from_outside(scheme, fails, asked, monkeypatch):
    head = BusyHead(fails)
    monkeypatch.setattr(nodes, "library", lambda: head)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"{scheme}127.0.0.1:{listening.getsockname()[1]}"
        if fails < asked:
            assert nodes.joined(Asked(address))
        else:
            with pytest.raises(BenchError, match="starting the client server failed"):
                nodes.joined(Asked(address))
    assert head.asked == asked


@dataclass
class Cluster:
    """Nodes of a Ray cluster on this machine, each with a cache and a temporary folder of its own.

    Ends nothing but what it started.
    """

    folder: Path
    environment: dict[str, str]
    started: dict[int, subprocess.Popen] = field(default_factory=dict)
    port: int = 0
    takes_jobs: bool = False
    job_port: int = 0
    client_port: int = 0

    def ip(self, node):
        """Of other processes that run these tests, other addresses."""
        return f"127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}.{node}"

    @property
    def address(self):
        return f"{self.ip(HEAD)}:{self.port}"

    @property
    def jobs(self):
        return f"http://{self.ip(HEAD)}:{self.job_port}"

    def free(self):
        with socket.create_server((self.ip(HEAD), 0)) as free:
            return free.getsockname()[1]

    def of_the_head(self):
        return [
            f"--include-dashboard={self.takes_jobs}",
            f"--dashboard-host={self.ip(HEAD)}",
            f"--dashboard-port={self.job_port}",
            f"--ray-client-server-port={self.client_port}",
        ]

    def start(self, node):
        own = self.folder / str(node)
        (own / "cache").mkdir(parents=True, exist_ok=True)
        (own / "tmp").mkdir(exist_ok=True)
        head = node == HEAD
        if head:
            self.port, self.job_port, self.client_port = self.free(), self.free(), self.free()
        where = [f"--port={self.port}", "--head"] if head else [f"--address={self.address}"]
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--block"),
            *(f"--node-ip-address={self.ip(node)}", "--num-cpus=1", "--disable-usage-stats"),
            # By default one number for all: of two nodes on a machine one could take no jobs.
            f"--dashboard-agent-listen-port={self.free()}",
            *(self.of_the_head() if head else []),
            f"--temp-dir={own / 'tmp'}" if head else "--memory=4000000000",
            "--object-store-memory=200000000",
        ]
        environment = {
            **self.environment,
            "TRIGGERBENCH_CACHE": str(own / "cache"),
            "TMPDIR": str(own / "tmp"),
            "HOME": str(own),
        }
        log = (own / "log").open("ab")
        self.started[node] = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        self.wait(lambda: "Ray runtime started" in (own / "log").read_text(errors="replace"))

    def stop(self, node):
        """As if the power had failed."""
        process = self.started.pop(node)
        top = psutil.Process(process.pid)
        for one in [*top.children(recursive=True), top]:
            with suppress(psutil.Error):
                one.kill()
        process.wait()

    def stop_all(self):
        for node in list(self.started):
            self.stop(node)

    def wait(self, ready, seconds=60.0):
        until = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < until, "it took too long"
            time.sleep(0.1)


@contextmanager
def nodes_of(surroundings, *started, takes_jobs=False):
    pytest.importorskip("ray")
    environment = surroundings(OMP_NUM_THREADS="1", RAY_AUTH_MODE="disabled")
    # Ray's sockets lie in it, and the path of a socket has at most 107 bytes.
    folder = tempfile.TemporaryDirectory(prefix="tb", ignore_cleanup_errors=True)
    found = Cluster(Path(folder.name), environment, takes_jobs=takes_jobs)
    try:
        for node in started:
            found.start(node)
        yield found
    finally:
        found.stop_all()
        folder.cleanup()


@pytest.fixture
def cluster(surroundings):
    """Two nodes of which a test may end any."""
    with nodes_of(surroundings, HEAD, OTHER) as found:
        yield found


@pytest.fixture(scope="module")
def steady(surroundings):
    """One node, which outlives the tests."""
    with nodes_of(surroundings, HEAD) as found:
        yield found


def driver(tmp_path, environment, *arguments, name="driver", **more):
    """``pytest bench`` in a process of its own, with a cache of its own."""
    command = [
        *(sys.executable, "-m", "pytest", "bench", "-p", "tiny", "-p", "undrawn", "-v"),
        *("-p", "no:cacheprovider", f"--results-dir={tmp_path / name / 'results'}", *arguments),
    ]
    environment = {**environment, "TRIGGERBENCH_CACHE": str(tmp_path / name / "cache"), **more}
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=hears_interrupts,
    )  # fmt: skip


def hears_interrupts():
    """A shell starts what it puts into the background deaf to Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def told(process, seconds=300):
    text, _ = process.communicate(timeout=seconds)
    return text


def figures(folder):
    found = records.load_all(folder / "results")
    return {record.cell.id: (record.key, record.metrics, record.poison) for record in found}


@pytest.fixture(scope="module")
def serial(tmp_path_factory, surroundings):
    folder = tmp_path_factory.mktemp("serial")
    process = driver(folder, surroundings(OMP_NUM_THREADS="1"), *PART)
    text = told(process)
    assert process.returncode in (0, 1), text
    return figures(folder / "driver")


def started(cluster, tmp_path, *arguments, **more):
    """A driver of this cluster."""
    more.setdefault("RAY_ADDRESS", cluster.address)
    return driver(tmp_path, cluster.environment, *arguments, "--executor=ray", **more)


def test_two_nodes_give_the_figures_of_a_serial_run(cluster, serial, tmp_path):
    process = started(cluster, tmp_path, *PART)
    text = told(process)
    assert figures(tmp_path / "driver") == serial, text
    assert "6 cells in " in text
    assert "critical path" in text
    trained = [
        path.stem
        for node in (HEAD, OTHER)
        for path in (cluster.folder / str(node) / "cache/victims").glob("*.json")
    ]
    assert len(set(trained)) == 2
    stored = {path.stem for path in (tmp_path / "driver/cache/victims").glob("*.json")}
    assert stored == set(trained)


def test_a_node_that_dies_and_one_that_comes_change_no_figure(cluster, serial, tmp_path):
    process = started(cluster, tmp_path, *PART)
    cluster.wait(lambda: any((cluster.folder / str(OTHER) / "cache").rglob("*.lock")), 120)
    cluster.stop(OTHER)
    cluster.start(THIRD)
    text = told(process)
    assert figures(tmp_path / "driver") == serial, text


def test_a_driver_that_is_killed_goes_on_where_it_was(cluster, serial, tmp_path):
    first = started(cluster, tmp_path, *PART)
    made = tmp_path / "driver/cache/records"
    cluster.wait(lambda: made.is_dir() and any(made.glob("*.json")), 180)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = {path.name for path in made.glob("*.json")}
    text = told(started(cluster, tmp_path, *PART))
    assert figures(tmp_path / "driver") == serial, text
    assert kept <= {path.name for path in made.glob("*.json")}
    assert not list((tmp_path / "driver").rglob("*.part"))


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
def test_at_any_moment_a_worker_node_or_driver_may_end(seed, cluster, serial, tmp_path):
    draw = random.Random(seed)
    what, delay = draw.choice(["worker", "node", "driver"]), draw.uniform(0.0, 25.0)
    process = started(cluster, tmp_path, *PART)
    time.sleep(delay)
    if what == "driver":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process = started(cluster, tmp_path, *PART)
    elif what == "node":
        cluster.stop(OTHER)
        cluster.start(THIRD)
    else:
        for one in psutil.Process(cluster.started[OTHER].pid).children(recursive=True):
            with suppress(psutil.Error):
                if one.cmdline()[:1] == ["ray::train"] or one.cmdline()[:1] == ["ray::measure"]:
                    one.kill()
    text = told(process)
    assert figures(tmp_path / "driver") == serial, (what, delay, text)


PLUGINS = """
import os, signal, time
from attacks import Attack, attack
from defenses import Repair, defense

@attack("deadly", level=1, needs="data")
class Deadly(Attack):
    '''Ends whatever process poisons with it.'''
    def forward(self, images):
        return images.flip(-1)
    def choose(self, labels, generator):
        os.kill(os.getpid(), signal.SIGKILL)

@attack("mirror", level=1, needs="data")
class Mirror(Attack):
    '''Mirrored images.'''
    def forward(self, images):
        return images.flip(-1)

@defense("endless", source="none")
class Endless(Repair):
    '''Never returns.'''
    sees = ("model",)
    def repair(self, view):
        while True:
            time.sleep(0.1)
"""


@pytest.fixture
def mine(tmp_path):
    """A module of plugins that no node has."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "strange.py").write_text(PLUGINS)
    return folder


def test_a_module_of_plugins_is_sent_to_nodes(steady, mine, tmp_path):
    path = f"{mine}{os.pathsep}{steady.environment['PYTHONPATH']}"
    arguments = ("-p", "strange", "--dataset=tiny", "--attack=mirror", "--defense=none,endless")
    text = told(started(steady, tmp_path, *arguments, "--cell-timeout=20", PYTHONPATH=path))
    assert "tiny-simplecnn-mirror-endless-s0: took longer than --cell-timeout 20 s" in text
    assert list(figures(tmp_path / "driver")) == ["tiny-simplecnn-mirror-s0"]


def test_a_task_that_ends_its_worker_is_begun_again_and_not_for_ever(steady, mine, tmp_path):
    path = f"{mine}{os.pathsep}{steady.environment['PYTHONPATH']}"
    arguments = ("-p", "strange", "--dataset=tiny", "--attack=deadly,none", "--defense=none")
    text = told(started(steady, tmp_path, *arguments, PYTHONPATH=path))
    assert re.search(
        r"tiny-simplecnn-deadly-s0: begun 3 times, at last \S+: its worker ended", text
    )
    assert "again: training of tiny-simplecnn-deadly-s0" in text
    assert list(figures(tmp_path / "driver")) == ["tiny-simplecnn-none-s0"]


def test_from_outside_a_cluster_gives_the_same_figures(steady, serial, tmp_path):
    where = f"--executor=ray://{steady.ip(HEAD)}:{steady.client_port}"
    process = driver(tmp_path, steady.environment, *PART, where)
    text = told(process)
    assert process.returncode in (0, 1), text
    assert figures(tmp_path / "driver") == serial, text


def test_interrupted_it_keeps_what_is_done(steady, mine, tmp_path):
    path = f"{mine}{os.pathsep}{steady.environment['PYTHONPATH']}"
    arguments = ("-p", "strange", "--dataset=tiny", "--attack=none", "--defense=none,endless")
    process = started(steady, tmp_path, *arguments, PYTHONPATH=path)
    made = tmp_path / "driver/cache/records"
    steady.wait(lambda: made.is_dir() and any(made.glob("*.json")), 180)
    process.send_signal(signal.SIGINT)
    text = told(process, 60)
    assert process.returncode == 2, text
    assert "1 cell had not ended; what is done is kept" in text
    assert list(made.glob("*.json"))


def test_with_workers_of_pytest_it_is_one_line(tmp_path, surroundings):
    process = driver(tmp_path, surroundings(), *PART, "--executor=ray", "-n", "2")
    text = told(process)
    assert process.returncode == 4
    assert "--executor: a cluster has its own workers, so leave -n out" in text


def test_without_ray_it_is_one_line(tmp_path, surroundings):
    (tmp_path / "ray.py").write_text("raise ImportError('no ray')\n")
    process = driver(tmp_path, surroundings(tmp_path), *PART, "--executor=ray")
    text = told(process)
    assert process.returncode == 4
    assert "Ray is not installed; `pip install 'triggerbench[ray]'`" in text


@pytest.mark.parametrize("command", ["submit", "status", "collect"])
def test_without_a_cluster_that_takes_jobs_it_is_one_line(command, tmp_path, capsys):
    pytest.importorskip("ray")
    what = {"submit": ["study"], "status": [], "collect": ["job", "--to", str(tmp_path)]}
    assert main([command, "--address", "http://127.0.0.9:1", *what[command]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --address: http://127.0.0.9:1: ")


def test_a_run_that_was_submitted_goes_on_alone_and_is_collected(
    surroundings, serial, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with nodes_of(surroundings, HEAD, takes_jobs=True) as found:
        where = ["--address", found.jobs]
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", found.jobs)
        given = ["study", "-p", "tiny", "-p", "undrawn", *PART]
        assert main(["submit", *where, *given]) == 0
        (id,) = capsys.readouterr().out.split()
        assert main(["collect", id, *where, "--to", str(tmp_path / "none")]) in (0, 2)

        def ended():
            capsys.readouterr()
            assert main(["status", id, *where]) == 0
            line = capsys.readouterr().out
            assert line.startswith(f"{id}  ")
            return any(word in line for word in ("succeeded", "failed"))

        found.wait(ended, 240)
        assert main(["collect", id, *where, "--to", str(tmp_path / "found")]) == 0
        again = records.load_all(tmp_path / "found")
        assert {r.cell.id: (r.key, r.metrics, r.poison) for r in again} == serial
        assert main(["status", "other", *where]) == 2
        assert "knows no job other" in capsys.readouterr().err
