"""Measures an attack: does it work, what does its trigger do to other models, is it seen?"""

from __future__ import annotations

from bench.judge import formulas
from bench.judge.common import Outcome, as_received, classes_of, pixels
from bench.runtime.costs import cost
from bench.victims import Victim

GALLERY_IMAGES = 4


def judge_attack(
    victim: Victim, clean_victim: Victim | None, other_victim: Victim | None
) -> Outcome:
    """Clean accuracy, ASR and RA, what the trigger does to other models, and its stealth.

    ``clean_victim``: the same model without poison. ``other_victim``: the same attack from another
    seed, where the trigger is learned.
    """
    test = victim.dataset.test
    aims = victim.attack.aim(test.labels)
    with cost() as measuring:
        triggered, received = as_received(victim)
        found = dict(received)
        for name, other in (("asr_clean_model", clean_victim), ("asr_other_seed", other_victim)):
            if other is not None:
                predicted = classes_of(other.model, triggered)
                found[name] = formulas.asr(predicted, test.labels, aims)
        found |= formulas.stealth(test.images, triggered)
    shown = (test.labels != aims).nonzero().flatten()[:GALLERY_IMAGES]
    details = {
        "gallery": {"clean": pixels(test.images[shown]), "triggered": pixels(triggered[shown])},
        "labels": [victim.dataset.classes[int(k)] for k in test.labels[shown]],
    }
    return found, {"measure": measuring}, details
