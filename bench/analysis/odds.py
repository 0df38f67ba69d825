"""How far each detector can be trusted, and the verdict that follows: from models made to know.

``bench/expected/odds.toml`` holds what `measured` made of records: `python -m bench odds`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from scipy.stats import t as student_t

from bench import expected
from bench.expected.toml import read
from bench.store.records import Record
from fixtures.errors import BenchError

FILE = Path(expected.__file__).with_name("odds.toml")

LEVEL = 0.05
"""The chance with which a clean model may be called backdoored, by the rule of `judged`."""

LEARNT_FROM = 60
"""Seeds below this one say what is usual of clean models; what the rule is worth is measured on
the others."""


FEWEST = 10
"""Clean models that say what is usual."""

LEAST_SPREAD = 0.01
"""Of the logarithms of scores: models that all score alike were too few, or too much alike."""


class Usual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The logarithms, ln(1 + score), of ``models`` clean models: their mean and deviation."""

    mean: float
    spread: Annotated[float, msgspec.Meta(gt=0)]
    models: Annotated[int, msgspec.Meta(ge=2)]

    def chance(self, score: float) -> float:
        """That another clean model scores as much, by Student's t for one more draw."""
        far = (math.log1p(max(score, 0.0)) - self.mean) / (
            self.spread * math.sqrt(1 + 1 / self.models)
        )
        return float(student_t.sf(far, self.models - 1))


class Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of ``models`` so many were ``called`` backdoored."""

    called: int
    models: int


class Detector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``usual``: of clean models. ``own``: by attack, what its own verdict was; ``none``: clean."""

    usual: Usual
    own: dict[str, Counted]


class Zoo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One setting. ``rule``: as ``own``, by the rule of `judged`. ``auroc``: of the rule's chance,
    by attack, against the clean models. ``shape``: channels, height, width of the images;
    ``classes``: how many there are."""

    dataset: str
    models: tuple[str, ...]
    shape: tuple[int, int, int]
    classes: int
    detectors: dict[str, Detector]
    rule: dict[str, Counted]
    auroc: dict[str, float]


class Odds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    zoos: tuple[Zoo, ...]


def zoos(path: Path | None = None) -> Sequence[Zoo]:
    """What a file of odds says, by default ``odds.toml``.

    Raises BenchError, which names file and entry, or how it is made.
    """
    path = path or FILE
    if not path.exists():
        raise BenchError(
            f"nothing is known of the detectors' errors: {path} is missing; "
            "`python -m bench odds RESULTS` makes it of records of models made to know"
        )
    found = read(path, Odds).zoos
    if not found:
        raise BenchError(f"{path}: it holds no zoo")
    return found


def nearest(shape: tuple[int, int, int], known: Sequence[Zoo]) -> Zoo:
    """The setting whose images are most alike: as many channels, then the nearest size."""
    return min(known, key=lambda zoo: (zoo.shape[0] != shape[0], abs(zoo.shape[1] - shape[1])))


@dataclass(frozen=True)
class Judgement:
    """``chance``: that a clean model of the nearest setting looks as suspicious as this one, by all
    detectors together; None where none could judge. ``by_detector``: of each alone."""

    backdoored: bool | None
    chance: float | None
    by_detector: Mapping[str, float]


def judged(
    scores: Mapping[str, float | None], usual: Mapping[str, Usual], times: float = 1.0
) -> Judgement:
    """The combined verdict of model detectors, whose scores are given by name.

    For each the chance is that of a clean model that scores as much. A score is the largest of one
    for each class: ``times`` as many classes as those models have make it so much likelier, as if
    classes were independent. The smallest, times the number of detectors that judged (Bonferroni),
    is the chance of the model; under `LEVEL` it is called backdoored.
    """
    by_detector = {
        name: -math.expm1(times * math.log1p(-min(usual[name].chance(score), 1 - 1e-12)))
        for name, score in scores.items()
        if score is not None and name in usual
    }
    if not by_detector:
        return Judgement(None, None, {})
    chance = min(1.0, len(by_detector) * min(by_detector.values()))
    return Judgement(chance < LEVEL, chance, by_detector)


def measured(
    records: Iterable[Record], shape: tuple[int, int, int], classes: int, dataset: str
) -> Zoo:
    """What records of model detectors on one data set say, over all networks together.

    Seeds below `LEARNT_FROM` of clean models make the rule; all other models measure it.
    """
    from sklearn.metrics import roc_auc_score

    scores: dict[tuple[str, str, int], dict[str, float]] = defaultdict(dict)
    verdicts: dict[str, dict[tuple[str, str, int], bool]] = defaultdict(dict)
    for record in records:
        cell = record.cell
        if not cell.is_plain or cell.split != "test":
            continue  # another attack, detector or budget than an audit has
        which = (cell.model_name, cell.attack, cell.seed)
        if cell.defense in scores[which]:
            raise BenchError(f"odds: {cell.id} is there twice")
        scores[which][cell.defense] = record.metrics["suspicion"]
        right = bool(record.metrics["verdict_correct"])
        verdicts[cell.defense][which] = right == (cell.attack != "none")
    learnt = {which for which in scores if which[1] == "none" and which[2] < LEARNT_FROM}
    usual = {}
    for name, said in verdicts.items():
        of = [scores[which][name] for which in learnt & said.keys()]
        if len(of) < FEWEST:
            raise BenchError(
                f"odds: {dataset}, {name}: {len(of)} clean models of seeds below {LEARNT_FROM}; "
                f"{FEWEST} are the fewest to say what is usual"
            )
        usual[name] = usual_of(of)
    judgements = {which: judged(scores[which], usual) for which in scores.keys() - learnt}
    called = {which: bool(found.backdoored) for which, found in judgements.items()}
    looks: dict[str, list[float]] = defaultdict(list)
    for (_, attack, _), found in judgements.items():
        looks[attack].append(-min(found.by_detector.values()))
    if "none" not in looks:
        raise BenchError(f"odds: {dataset}: no clean model of a seed from {LEARNT_FROM} upwards")
    clean, auroc = looks.pop("none"), {}
    for attack, own in sorted(looks.items()):
        truth = [0] * len(clean) + [1] * len(own)
        auroc[attack] = float(roc_auc_score(truth, [*clean, *own]))
    return Zoo(
        dataset=dataset,
        models=tuple(sorted({model for model, _, _ in scores})),
        shape=shape,
        classes=classes,
        detectors={
            name: Detector(
                usual[name],
                _counted({which: said for which, said in own.items() if which not in learnt}),
            )
            for name, own in sorted(verdicts.items())
        },
        rule=_counted(called),
        auroc=auroc,
    )


def usual_of(scores: Sequence[float]) -> Usual:
    logs = [math.log1p(max(score, 0.0)) for score in scores]
    return Usual(statistics.fmean(logs), max(statistics.stdev(logs), LEAST_SPREAD), len(logs))


def _counted(called: Mapping[tuple[str, str, int], bool]) -> dict[str, Counted]:
    by_attack: dict[str, list[bool]] = defaultdict(list)
    for (_, attack, _), said in called.items():
        by_attack[attack].append(said)
    return {attack: Counted(sum(said), len(said)) for attack, said in sorted(by_attack.items())}


def written(zoos: Sequence[Zoo], command: str) -> str:
    """``odds.toml``, which says by which command it was made."""
    lines = [f"# Made by `{command}`, and by nobody's hand; what it says stands in",
             "# bench/analysis/odds.py."]  # fmt: skip
    for zoo in zoos:
        each = [f"{json.dumps(name)} = {of:.4f}" for name, of in zoo.auroc.items()]
        lines += [
            *("", "[[zoos]]", f'dataset = "{zoo.dataset}"'),
            f"models = {json.dumps(zoo.models)}",
            f"shape = {json.dumps(zoo.shape)}",
            f"classes = {zoo.classes}",
            f"rule = {_table(zoo.rule)}",
            f"auroc = {{ {', '.join(each)} }}",
        ]
        for name, one in zoo.detectors.items():
            usual = f"mean = {one.usual.mean:.6f}, spread = {one.usual.spread:.6f}"
            lines += [
                *("", f"[zoos.detectors.{json.dumps(name)}]"),
                f"usual = {{ {usual}, models = {one.usual.models} }}",
                f"own = {_table(one.own)}",
            ]
    return "\n".join([*lines, ""])


def _table(counted: Mapping[str, Counted]) -> str:
    each = (f"{json.dumps(name)} = {{ called = {of.called}, models = {of.models} }}"
            for name, of in counted.items())  # fmt: skip
    return f"{{ {', '.join(each)} }}"
