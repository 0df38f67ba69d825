"""Changed code that measures the same keeps what it had measured; code that does not, does not."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import shutil
import sys

import pytest

from attacks import ATTACKS
from bench import Cell, run
from bench.harness.attest import attest, canaries, survey
from bench.measure import resolve
from bench.runtime.workspace import Workspace
from bench.spec.identity import key
from bench.store import collect, records
from fixtures.errors import BenchError

PLUGIN = """
import torch
from attacks import Attack, attack

@attack("corner", level=1, needs="data")
class Corner(Attack):
    def forward(self, images):
        {body}
"""
BRIGHT = "stamped = images.clone(); stamped[..., :3, :3] = 1.0; return stamped"
RENAMED = "bright = images.clone(); bright[..., :3, :3] = 1.0; return bright"
DIM = "stamped = images.clone(); stamped[..., :3, :3] = 0.5; return stamped"

OWN = Cell("tiny", attack="corner")
SCREENED = dataclasses.replace(OWN, defense="strip")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the plugin ``corner`` with a body for its trigger, and load it."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    registered = contextlib.ExitStack()

    def write(body):
        registered.close()
        registered.enter_context(ATTACKS.temporary())
        (folder / "corner_plugin.py").write_text(PLUGIN.format(body=body))
        sys.modules.pop("corner_plugin", None)
        importlib.invalidate_caches()
        # A file of the same length and second would be taken from the bytecode cache.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        importlib.import_module("corner_plugin")

    yield write
    registered.close()
    sys.modules.pop("corner_plugin", None)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The cache after the first measuring; every test starts from a copy."""
    return tmp_path_factory.mktemp("kept") / "cache"


@pytest.fixture
def at(tmp_path, kept):
    cache = tmp_path / "cache"
    if kept.exists():
        shutil.copytree(kept, cache)
    else:
        cache.mkdir()
    return Workspace(cache=cache, device="cpu")


@pytest.fixture
def measured(write, at, kept):
    """Two cells, measured with the first version of the plugin."""
    write(BRIGHT)
    for cell in (OWN, SCREENED):
        run(cell, at)
    if not kept.exists():
        shutil.copytree(at.cache, kept)
    return [run(cell, at) for cell in (OWN, SCREENED)]


def test_a_refactoring_carries_records_and_victims_over(measured, write, at):
    write(RENAMED)
    assert resolve(OWN, at).key != measured[0].key
    lines, equal = attest(at)
    assert equal, lines
    assert lines[-1].startswith("carried over by 2 canaries: 2 records, 1 victims")
    assert all("equal to the last digit" in line for line in lines[:-1])
    at.forget()
    for cell, before in zip((OWN, SCREENED), measured, strict=True):
        again = run(cell, at)
        assert again.reused
        assert (again.metrics, again.details) == (before.metrics, before.details)
        assert (again.key, again.attested) == (resolve(cell, at).key, before.key)
    again = run(SCREENED, at, rerun=True)
    assert again.victim == "loaded"


def test_a_changed_constant_is_told_and_nothing_is_carried_over(measured, write, at):
    write(DIM)
    before = sorted(path.name for path in at.cache.rglob("*.*"))
    lines, equal = attest(at, ["corner"])
    assert not equal
    assert any("canary tiny-simplecnn-corner-s0 (code of attack): moved: " in x for x in lines)
    assert any("linf 1.0 -> 0.5" in line for line in lines)
    assert lines[-1] == "nothing is carried over: 2 records stay stale"
    assert sorted(path.name for path in at.cache.rglob("*.*")) == before
    assert not run(OWN, at).reused


def test_attested_twice_a_record_still_names_the_key_it_was_measured_under(measured, write, at):
    for body in (RENAMED, RENAMED.replace("bright", "light")):
        write(body)
        assert attest(at)[1]
    assert run(OWN, at).attested == measured[0].key


def test_what_is_current_needs_no_canary(measured, at):
    assert attest(at) == (["nothing to attest: 2 records are of the present code"], True)


def test_a_name_without_a_record_is_one_line(measured, at):
    with pytest.raises(BenchError, match=r"attest: .*: no record of 'wanet'"):
        attest(at, ["corner", "wanet"])


def test_records_of_another_machine_stay_as_they_are(measured, write, at):
    there = dict(measured[0].identity["machine"], threads=99)
    identity = {**measured[0].identity, "machine": there}
    other = dataclasses.replace(measured[0], key=key(identity), identity=identity)
    other.save(at.cache / "records" / f"{other.key}.json")
    write(RENAMED)
    lines, equal = attest(at)
    assert equal, lines
    assert lines[0].startswith("not attested here: tiny-simplecnn-corner-s0 (threads 99 -> ")
    assert records.load(at.cache / "records" / f"{other.key}.json").key == other.key


def test_canaries_have_every_flavour_trigger_and_changed_piece_of_code(measured, write, at):
    found = [*measured, run(Cell("tiny", attack="corner", defense="fine_tuning"), at)]
    found.append(run(Cell("tiny", attack="corner", defense="fine_tuning", seed=1), at))
    write(RENAMED)
    stale = survey(found, at).stale
    chosen = canaries(stale)
    assert set().union(*(c.features for c in chosen)) == set().union(*(s.features for s in stale))
    assert len(chosen) == 3, "attack, inputs, repair; one seed is enough"


def test_committed_records_are_carried_over_in_their_file(measured, write, at, tmp_path):
    packed = tmp_path / "study" / "records.jsonl"
    collect.write(measured, packed)
    write(RENAMED)
    lines, equal = attest(at, results=tmp_path / "study")
    assert equal, lines
    assert lines[-1] == "carried over by 2 canaries: 2 records"
    found = records.load_lines(packed)
    assert {record.key for record in found} == {resolve(c, at).key for c in (OWN, SCREENED)}
    assert {record.attested for record in found} == {record.key for record in measured}


def test_what_the_present_code_measured_itself_is_never_replaced(measured, write, at):
    """It was measured again with other figures: nothing else of that code may be carried over."""
    write(RENAMED)
    job = resolve(OWN, at)
    other = {**measured[0].metrics, "asr": 0.125}
    current = dataclasses.replace(measured[0], key=job.key, identity=job.identity, metrics=other)
    current.save(job.path)
    lines, equal = attest(at)
    assert not equal
    assert lines[0] == f"moved: {OWN.id}: measured again, with other figures"
    assert records.load(job.path).metrics == other


def test_other_figures_are_told_also_where_nothing_is_left_to_attest(measured, write, at):
    write(RENAMED)
    for record in measured:
        job = resolve(record.cell, at)
        figures = dict.fromkeys(record.metrics, 0.125)
        dataclasses.replace(record, key=job.key, identity=job.identity, metrics=figures).save(
            job.path
        )
    lines, equal = attest(at)
    assert not equal
    assert [line.partition(":")[0] for line in lines] == ["moved", "moved", "nothing to attest"]


def test_a_victim_of_other_weights_is_not_carried_over(measured, write, at):
    """Its figures may be the same by chance: shares of few images are coarse."""
    (about,) = [p for p in (at.cache / "victims").glob("*.json") if "corner" in p.read_text()]
    weights = about.with_suffix(".safetensors")
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    write(RENAMED)
    lines, equal = attest(at)
    assert not equal
    assert any("the weights of tiny-simplecnn-corner-s0" in line for line in lines)


def test_an_attack_with_a_hook_of_its_own_needs_a_canary_of_its_own(measured, write, at):
    """A change may move only what uses the hook, say the penalty of the loss."""
    run(Cell("tiny", attack="wanet", defense="strip"), at)
    for record in records_in(at):
        old = {**record.identity, "code": {**record.identity["code"], "training": "older"}}
        path = at.cache / "records" / f"{record.key}.json"
        path.unlink()
        stale = dataclasses.replace(record, identity=old, key=key(old))
        stale.save(at.cache / "records" / f"{stale.key}.json")
    chosen = canaries(survey(records_in(at), at).stale)
    assert {item.job.cell.attack for item in chosen} == {"corner", "wanet"}


def records_in(at):
    return [records.load(path) for path in (at.cache / "records").glob("*.json")]


def test_what_is_collected_meanwhile_stays(measured, write, at, tmp_path, monkeypatch):
    packed = tmp_path / "study" / "records.jsonl"
    collect.write(measured, packed)
    late = run(dataclasses.replace(OWN, attack="none", seed=7), at)
    write(RENAMED)
    monkeypatch.setattr(
        "bench.harness.attest.moved",
        lambda *_: collect.write([*measured, late], packed) and [],
    )
    assert attest(at, results=tmp_path / "study")[1]
    assert {r.cell.seed for r in records.load_lines(packed)} == {0, 7}
