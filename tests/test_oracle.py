"""No defense can see the answer: change what only the judge may know, and nothing it says moves."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from attacks import POISON
from bench import Cell
from bench.judge.defender import Defender
from bench.judge.defenses import judge_defense
from bench.victims import Victim
from bench.victims.provide import victim
from defenses import DEFENSES, DefenderView, InputDetector, Repair
from fixtures.images import ImageSet, to_bytes


@pytest.fixture(scope="module")
def attacked(workspace):
    return victim(Cell("tiny", attack="pixel"), workspace)


@torch.no_grad()
def made(net):
    """Its parameters, of which one in a process of its own shows none, and what it answers."""
    images = torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    return torch.cat([part.flatten() for part in (*net.parameters(), net(images))]).clone()


SAID = {
    "detect": lambda out: torch.cat([out.scores, out.flags.double()]),
    "inspect": lambda out: torch.cat(
        [part.flatten() for part in (out.anomaly, out.masks, out.patterns) if part is not None]
    ),
    "make": lambda out: made(out.net),
}
"""What a defender's process is asked -> all that it says, as numbers. An input detector sees test
images by its nature."""

SEES_NO_TEST = [n for n in DEFENSES.names() if not issubclass(DEFENSES[n].factory, InputDetector)]


@pytest.fixture
def said(monkeypatch):
    """What defenders said, caught before the judge compares it with the truth."""
    caught = []

    def spied(original, numbers):
        def ask(defender, *args):
            out = original(defender, *args)
            caught.append(numbers(out))
            return out

        return ask

    for method, numbers in SAID.items():
        monkeypatch.setattr(Defender, method, spied(getattr(Defender, method), numbers))
    return caught


class Turned(Victim):
    """The judge's truth is another: what each training sample is said to have become."""

    @property
    def roles(self):
        return super().roles.roll(1)


def turned(attacked):
    fields = {f.name: getattr(attacked, f.name) for f in dataclasses.fields(attacked)}
    return Turned(**fields)


@pytest.fixture
def defended(workspace, quick):
    """Has a defense judged against a victim, with parameters that make it quick."""

    def judge(name, attacked, params=None):
        params = quick(name) if params is None else params
        cell = Cell("tiny", attack="pixel", defense=name, defense_params=params)
        return judge_defense(cell, attacked, None, workspace)[0]

    return judge


@pytest.mark.parametrize("name", SEES_NO_TEST)
def test_a_canary_in_the_test_set_moves_no_verdict(name, attacked, said, defended):
    test = attacked.dataset.test
    canary = ImageSet(torch.rand(len(test), *test.shape), test.labels)
    other = dataclasses.replace(
        attacked, dataset=dataclasses.replace(attacked.dataset, test=canary), _made={}, _shared={}
    )
    for one in (attacked, other):
        defended(name, one)
    assert len(said) in (2, 4)  # twice what is quick
    assert all(torch.equal(said[0], other) for other in said)


@pytest.mark.parametrize("name", SEES_NO_TEST)
def test_a_canary_in_the_roles_moves_no_verdict(name, attacked, said, defended):
    for one in (attacked, turned(attacked)):
        defended(name, one)
    assert len(said) in (2, 4)
    assert all(torch.equal(said[0], other) for other in said)


def test_a_canary_in_the_roles_moves_the_score(workspace, defended):
    few = {"poison_rate": 0.03}  # so little that clustering finds it
    attacked = victim(Cell("digits", attack="pixel", attack_params=few), workspace)
    both = (attacked, turned(attacked))
    honest, fooled = (defended("activation_clustering", one, {}) for one in both)
    assert honest["f1"] > 0.6
    assert fooled["f1"] < 0.5


def test_an_input_detector_sets_its_threshold_before_it_sees_an_input(attacked):
    """The same clean images and seed give the same threshold, whatever is screened afterwards."""
    thresholds = []
    for images in (attacked.dataset.test.images[:40], torch.rand(70, *attacked.dataset.shape)):
        detector = DEFENSES.create("strip", overlays=3)
        detector.calibrate(attacked.view(0, detector.sees))
        thresholds.append(detector.threshold)
        detector.screen(images)
        thresholds.append(detector.threshold)
    assert len(set(thresholds)) == 1


def test_what_strip_says_of_an_input_does_not_depend_on_what_it_is_screened_with(attacked):
    images = attacked.dataset.test.images[:40]
    detector = DEFENSES.create("strip", overlays=3)
    detector.calibrate(attacked.view(0, detector.sees))
    together = detector.screen(images)
    apart = torch.cat([detector.screen(part) for part in images.flip(0).split(7)]).flip(0)
    assert torch.allclose(together, apart, atol=1e-4)
    assert len(together.unique()) > 30


def test_a_defense_that_changes_its_view_harms_nobody(attacked, judged):
    class Vandal(Repair):
        sees = frozenset({"model", "clean", "suspect"})

        def repair(self, view):
            for images in (view.clean, view.suspect):
                images.labels.fill_(0)
                images.bytes(torch.arange(len(images))).fill_(0)
                images.batch(torch.arange(len(images))).fill_(0)
            with torch.no_grad():
                for parameter in view.model.parameters():
                    parameter.zero_()
            return view.model

    def held():
        sets = (attacked.suspect, attacked.clean(None), attacked.dataset.test)
        return [t.clone() for one in sets for t in (one.labels, to_bytes(one.images))]

    before, weights = held(), attacked.model.head.weight.clone()
    found, _, _ = judged(Vandal, attacked)
    assert found["clean_accuracy"] < 0.3
    assert found["clean_accuracy_before"] > 0.9
    assert torch.equal(attacked.model.head.weight, weights)
    assert all(torch.equal(a, b) for a, b in zip(before, held(), strict=True))


def test_the_view_holds_neither_trigger_nor_target_nor_roles_nor_test(attacked):
    every_part = frozenset({"model", "clean", "suspect"})
    shown = {name for name in vars(DefenderView) if not name.startswith("_")}
    shown |= {name for name in vars(attacked.view(0, every_part)) if not name.startswith("_")}
    assert shown == {
        *every_part,
        *("shape", "num_classes", "device", "generator", "recipe", "sees", "missed"),
        *("fresh", "train", "fine_tune", "anatomy", "held_out", "by_label", "seed"),
    }


@pytest.mark.parametrize("part", ["model", "clean", "suspect"])
def test_a_part_that_a_defense_does_not_see_is_not_there(attacked, part):
    view = attacked.view(0, frozenset({"model", "clean", "suspect"}) - {part})
    assert getattr(view, part) is None
    assert view.missed == [part]
    assert part not in view.sees
    assert len(view.sees) == 2


def test_the_defenders_randomness_is_not_the_attackers(attacked, judged):
    """From a shared stream, a defender's own permutation would repeat the choice of poison."""

    class Replays(Repair):
        sees = frozenset({"model", "suspect"})

        def repair(self, view):
            self.report["seed"] = view.generator.initial_seed()
            order = torch.randperm(len(view.suspect), generator=view.generator)
            self.report["order"] = order.tolist()
            return view.model

    _, _, details = judged(Replays, attacked)
    order = torch.tensor(details["report"]["order"])
    generator = torch.Generator().manual_seed(details["report"]["seed"])
    replayed = attacked.attack.choose(attacked.dataset.train.labels, generator)
    poison = attacked.roles == POISON
    assert poison[order[: int(poison.sum())]].float().mean() < 0.2
    assert ((replayed.roles == POISON) & poison).sum() < 0.2 * poison.sum()
