"""Measures an attack: does it work, does it last, what does it do to other models, is it seen?"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.judge import formulas
from bench.judge.common import (
    Outcome,
    aimed,
    classes_of,
    every_trigger,
    pixels,
)
from bench.judge.networks import as_received
from bench.judge.survival import accuracy_after, survival
from bench.runtime.costs import cost
from bench.victims import Victim

GALLERY_IMAGES = 4

STEALTH_IMAGES = 10_000
"""Of the training set, at most: how visible poison is needs no more."""


def judge_attack(
    victim: Victim, clean_victim: Victim | None, other_victim: Victim | None
) -> Outcome:
    """Clean accuracy, ASR and RA, what is left of the trigger when it travels, what it does to
    other models, and its stealth.

    ``clean_victim``: the same model without poison. ``other_victim``: the same attack from another
    seed, where the trigger is learned.
    """
    test = victim.dataset.test
    with cost() as measuring:
        found = dict(as_received(victim))
        triggers = every_trigger(victim)
        if clean_victim is not None:
            each = [
                formulas.asr(classes_of(clean_victim.model, one.images), one.aims, one.counts)
                for one in triggers
            ]
            found["asr_clean_model"] = sum(each) / len(each)
        if other_victim is not None:
            # What its owner trained it to answer, not what this trigger's owner wants.
            other, images = aimed(other_victim), triggers[0].images
            found["asr_other_seed"] = formulas.asr(
                classes_of(other_victim.model, images), other.aims, other.counts
            )
        details = _by_trigger(victim, found)
        if victim.attack.backdoors:
            found |= survival(victim)
            details["accuracy_after"] = accuracy_after(victim)
        found |= _restraint(victim)
        found |= formulas.stealth(test, triggers[0].images)
        found |= _stealth_in_training(victim)
    shown = _spread(triggers[0].counts.nonzero().flatten())
    details |= {
        "gallery": {
            "clean": pixels(test.bytes(shown)),
            "triggered": pixels(triggers[0].images.bytes(shown)),
        },
        "labels": [victim.dataset.classes[int(k)] for k in test.labels[shown]],
    }
    return found, {"measure": measuring}, details


def _spread(places: Tensor) -> Tensor:
    """Some of them, evenly spread: many test sets stand in the order of their classes."""
    return places[:: max(1, len(places) // GALLERY_IMAGES)][:GALLERY_IMAGES]


def _by_trigger(victim: Victim, found: dict[str, float]) -> dict[str, object]:
    """Of several triggers the ASR of each, as details; the least of them joins ``found``."""
    if victim.attack.triggers == 1:
        return {}
    each = [
        formulas.asr(classes_of(victim.model, one.images), one.aims, one.counts)
        for one in every_trigger(victim)
    ]
    found["asr_worst"] = min(each)
    return {"asr_by_trigger": each}


def _restraint(victim: Victim) -> dict[str, float]:
    """What the backdoor must not answer to: other classes, and images stamped as covers are."""
    found, attack, test = {}, victim.attack, victim.dataset.test
    hits = []
    for which in range(attack.triggers):
        one = aimed(victim, which)
        spared = ~attack.applies(one.labels, which) & (one.labels != one.aims)
        places = spared.nonzero().flatten()
        if len(places):  # most triggers are to work on every class
            hits.append(classes_of(victim.model, one.images.take(places)) == one.aims[places])
    if hits:
        found["leak"] = formulas.share(torch.cat(hits))
    if attack.covers:
        # The images that get the trigger are those that its covers must keep in their class.
        counts = torch.stack([one.counts for one in every_trigger(victim)]).any(0)
        predicted = classes_of(victim.model, victim.covered())
        found["cover_accuracy"] = formulas.share((predicted == test.labels)[counts])
    return found


def _stealth_in_training(victim: Victim) -> dict[str, float]:
    """How visible poison and covers are beside the images that they were made of."""
    index = victim.poison.index
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randperm(len(index), generator=generator)[:STEALTH_IMAGES]
    index = index[drawn.sort().values]
    if len(index) == 0:
        return {}
    before, after = victim.dataset.train.take(index), victim.received.take(index)
    return {f"{name}_train": value for name, value in formulas.stealth(before, after).items()}
