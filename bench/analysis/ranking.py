"""Who is ahead: defenses and attacks ranked, and the heat maps of attack x defense.

The ranking is simple. Repairs by their mean DER over all attacks, detectors by the mean of the
figure of their kind: F1 for samples, AUROC for inputs, and for models the mean of the share of
correct verdicts on attacked and on clean models, so that "always guilty" earns a half. Each with
its worst case beside it. Attacks by the ASR that is left after the repair that does best against
them, with their stealth beside it.

Only plugins at their defaults are ranked, swept poison rates are not. An attack that did not take
(ASR under 50 %) has no rank and is in no mean. Figures of different identity
never share a row: a defense whose code changed between two attacks has a row for each version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from attacks import ATTACKS
from bench.analysis.taken import Asr, asr_among, not_taken
from bench.report import tables
from bench.report.tables import estimate, with_params
from bench.spec.cell import Cell, Flavour, level_of
from bench.spec.identity import key, without
from bench.spec.metrics import METRICS
from bench.store.records import Record

TITLES: dict[Flavour, str] = {
    "repair": "Repairs",
    "samples": "Detectors of poisoned samples",
    "model": "Detectors of backdoored models",
    "inputs": "Detectors of triggered inputs",
    "attack": "Attacks",
}
RANKED_BY: dict[Flavour, str] = {
    "repair": "der",
    "samples": "f1",
    "model": "verdict_correct",
    "inputs": "auroc",
}
BESIDE: dict[Flavour, list[str]] = {
    "repair": ["asr", "clean_accuracy"],
    "samples": ["tpr", "fpr"],
    "model": ["target_found", "mask_iou"],
    "inputs": ["tpr_at_5_fpr", "tpr", "fpr"],
}
ON_CLEAN: dict[Flavour, tuple[str, str]] = {
    "repair": ("clean_accuracy", "clean model after it (%)"),
    "samples": ("fpr", METRICS["fpr_clean_model"].heading),
    "model": ("fpr", METRICS["fpr_clean_model"].heading),
    "inputs": ("fpr", METRICS["fpr_clean_model"].heading),
}
HEAT: list[tuple[Flavour, str, str]] = [
    ("repair", "asr", "ASR after repair (%)"),
    ("samples", "f1", "F1 of sample detection"),
    ("model", "target_found", "target found by model detection (%)"),
    ("inputs", "auroc", "AUROC of input detection"),
]
STEALTH = ["linf", "psnr", "ssim", "changed"]
LEFT = "ASR left after the best repair (%)"

_OF_THE_VICTIM = ("seed", "defense", "defense_params", "control", "judging", "numpy",
                  "scikit-learn", "scipy", "torchmetrics")  # fmt: skip
"""What the identities of one attack's cells may differ in, and still be of the same victims."""


@dataclass
class Entry:
    """One square of a table: ``value`` to sort by, ``text`` to read, and the records behind it."""

    text: str
    value: float | str | None
    behind: list[Record] = field(default_factory=list)

    @property
    def provenance(self) -> str:
        return provenance(self.behind)


Row = dict[str, Entry]


@dataclass
class Table:
    """``rows`` as ranked, best first; ``tags`` beside each are what a page filters by."""

    title: str
    rows: list[Row]
    tags: list[dict[str, str]]
    note: str = ""


@dataclass
class Study:
    """Everything about one data set and model."""

    dataset: str
    model: str
    tables: list[Table]
    heat: list[Table]
    complete: str
    commands: str


def largest_first(records: Iterable[Record]) -> list[Record]:
    """Studies by how many images their victims learn from, otherwise as they came.

    The larger data set says more, so its figures lead.
    """
    found = list(records)
    sizes: dict[str, int] = {}
    for record in found:
        size = int(record.poison.get("training_samples", 0))
        sizes[record.cell.dataset] = max(size, sizes.get(record.cell.dataset, 0))
    return sorted(found, key=lambda record: -sizes[record.cell.dataset])


def flavour(record: Record) -> Flavour:
    """What kind of plugin a record judges, by what was measured: plugins may be gone by now."""
    if record.kind != "detection":
        return "attack" if record.kind == "attack" else "repair"
    if "verdict_correct" in record.metrics:
        return "model"
    return "samples" if "false_labels" in record.metrics else "inputs"


def provenance(records: Iterable[Record]) -> str:
    """Seeds, command and commit: what a reader needs to make a figure again."""
    found = list(records)
    commands = " and ".join(dict.fromkeys(r.command or "code, not a command" for r in found))
    commits = ", ".join(dict.fromkeys(commit(r) for r in found))
    return f"seeds {tables.seeds_of(found)}; {commands}; commit {commits}"


def commit(record: Record) -> str:
    known = record.environment.get("commit")
    if known is None:
        return "unknown"
    return str(known)[:10] + (" with changes" if record.environment.get("dirty") else "")


def power(attack: str) -> str:
    """What the attacker needs, for a filter."""
    if attack not in ATTACKS:
        return "unknown"
    return tables.info(attack, "needs") or "nothing"


def studies(records: Iterable[Record], asked: Iterable[Cell] = ()) -> list[Study]:
    """The rankings of each data set and model, the largest data set first.

    ``asked``: see `bench.report.tables.lacking`.
    """
    ordered = largest_first(records)
    plain = [r for r in ordered if not (r.cell.attack_params or r.cell.defense_params)]
    wanted = [cell for cell in asked if not (cell.attack_params or cell.defense_params)]
    found = []
    for name in dict.fromkeys(study_of(r.cell) for r in plain):
        some = [r for r in plain if study_of(r.cell) == name]
        ranked = tables.of_one_identity(some)
        cells = [cell for cell in wanted if study_of(cell) == name]
        taken = _taken(ranked)
        found.append(
            Study(
                *name,
                tables=[*_defenses(taken), *_attacks(ranked)],
                heat=list(heat_maps(ranked)),
                complete=" ".join(
                    tables.complete(some, kind, cells)
                    for kind in tables.NAMES
                    if tables.select(some, kind) or any(cell.kind == kind for cell in cells)
                ),
                commands=tables.commands(some),
            )
        )
    return found


def study_of(cell: Cell) -> tuple[str, str]:
    """The data set and model that a cell's figures are ranked with."""
    return cell.dataset, with_params(cell.model, cell.model_params)


def _taken(records: list[Record]) -> list[Record]:
    """Without the cells of attacks that gave their victims no backdoor, by the mean over seeds."""
    asr = asr_among(records)
    return [
        r for group in tables.seeds_together(records) if not not_taken(group, asr) for r in group
    ]


Groups = dict[tuple[str, str], dict[str, list[Record]]]
"""(defense, version of it) -> attack -> its records over seeds."""


def _by_defense(records: Iterable[Record], of: Flavour) -> Groups:
    groups: Groups = {}
    for record in records:
        if flavour(record) == of:
            version = tables.defense_version(record)[:8]
            attacks = groups.setdefault((record.cell.defense, version), {})
            attacks.setdefault(record.cell.attack, []).append(record)
    return groups


def _named(name: str, version: str, among: Iterable[tuple[str, str]]) -> str:
    """The version is told only where there are several."""
    several = len([other for other, _ in among if other == name]) > 1
    return f"{name} @{version}" if several else name


def _entry(metric: str, records: Sequence[Record], suffix: str = "") -> Entry:
    behind = [r for r in records if metric in r.metrics]
    return _mean(metric, {r.cell.seed: [r.metrics[metric]] for r in behind}, behind, suffix)


def _mean(
    metric: str, by_seed: Mapping[int, Sequence[float]], behind: list[Record], suffix: str = ""
) -> Entry:
    """Mean over seeds of each seed's mean, so that the interval is over seeds."""
    if not by_seed:
        return Entry("", None)
    found = estimate([fmean(values) for values in by_seed.values()])
    return Entry(tables.show(metric, found) + suffix, found.mean, behind)


def _text(text: str) -> Entry:
    return Entry(text, text)


def _defenses(records: list[Record]) -> Iterable[Table]:
    attacks = {r.cell.attack for r in records if r.cell.attack != "none"}
    for of, metric in RANKED_BY.items():
        groups = _by_defense(records, of)
        rows: list[tuple[Row, dict[str, str]]] = []
        by = f"{METRICS[metric].heading}, mean"
        for (defense, version), cells in groups.items():
            tried = {a: g for a, g in cells.items() if a != "none" and metric in g[0].metrics}
            if tried:
                row = {"defense": _text(_named(defense, version, groups))}
                row |= _defense_row(of, metric, tried, cells.get("none", []))
                row["attacks"] = Entry(f"{len(tried)} of {len(attacks)}", len(tried))
                rows.append((row, {"kind": of}))
        yield from _ranked(TITLES[of], rows, by)


def _defense_row(
    of: Flavour, metric: str, tried: dict[str, list[Record]], on_clean: list[Record]
) -> Row:
    means = {attack: fmean(r.metrics[metric] for r in group) for attack, group in tried.items()}
    worst = min(means, key=lambda attack: means[attack])
    heading = METRICS[metric].heading
    overall = _over_attacks(metric, tried, on_clean if of == "model" else [])
    on_clean_metric, on_clean_heading = ON_CLEAN[of]
    return {
        f"{heading}, mean": overall,
        f"{heading}, worst": _entry(metric, tried[worst], f" ({worst})"),
        **{f"{METRICS[name].heading}, mean": _over_attacks(name, tried) for name in BESIDE[of]},
        on_clean_heading: _entry(on_clean_metric, on_clean),
        "seeds": _text(tables.seeds_of(overall.behind)),
    }


def _over_attacks(
    metric: str, tried: dict[str, list[Record]], beside: Sequence[Record] = ()
) -> Entry:
    """Mean over attacks, of the seeds in which every attack was tried.

    ``beside``: clean models, which then weigh as much as all attacks together.
    """
    everything = [r for group in tried.values() for r in group if metric in r.metrics]
    by_seed: dict[int, list[float]] = {}
    for record in everything:
        by_seed.setdefault(record.cell.seed, []).append(record.metrics[metric])
    whole = {seed: v for seed, v in by_seed.items() if len(v) == len(tried)}
    clean = {r.cell.seed: r.metrics[metric] for r in beside if metric in r.metrics}
    if beside:
        whole = {seed: [fmean(v), clean[seed]] for seed, v in whole.items() if seed in clean}
    behind = [r for r in [*everything, *beside] if r.cell.seed in whole]
    return _mean(metric, whole, behind)


def _attacks(records: list[Record]) -> Iterable[Table]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.cell.attack != "none":
            version = key(without(record.identity, *_OF_THE_VICTIM))[:8]
            groups.setdefault((record.cell.attack, version), []).append(record)
    rows: list[tuple[Row, dict[str, str]]] = []
    asr = asr_among(records)
    for (attack, version), some in groups.items():
        own = [r for r in some if flavour(r) == "attack"]
        failed = not_taken(own or some, asr)
        none = Entry(failed, None)
        row: Row = {
            "attack": _text(_named(attack, version, groups)),
            "needs": _text(power(attack)),
            LEFT: none if failed else _best(some, "repair", "asr", min),
            "ASR (%)": _entry("asr", own),
            "clean accuracy (%)": _entry("clean_accuracy", own),
            "F1 of the best detector": none if failed else _best(some, "samples", "f1", max),
        }
        row |= {METRICS[metric].heading: _entry(metric, own) for metric in STEALTH}
        rows.append((row, {"attack": attack, "power": power(attack), "kind": "attack"}))
    yield from _ranked(TITLES["attack"], rows, LEFT)


def _best(records: list[Record], of: Flavour, metric: str, choose: Callable[..., str]) -> Entry:
    """The figure of the defense that does best, with its name."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if flavour(record) == of and metric in record.metrics:
            groups.setdefault(record.cell.defense, []).append(record)
    if not groups:
        return Entry("", None)
    means = {d: fmean(r.metrics[metric] for r in group) for d, group in groups.items()}
    best = choose(means, key=lambda defense: means[defense])
    return _entry(metric, groups[best], f" ({best})")


def _ranked(title: str, rows: list[tuple[Row, dict[str, str]]], by: str) -> Iterable[Table]:
    """Highest first; whoever has no figure to be ranked by comes last, without a rank."""
    if not rows:
        return
    rows = sorted(rows, key=lambda pair: -float(pair[0][by].value or 0.0))
    rows.sort(key=lambda pair: pair[0][by].value is None)
    ranked = []
    for at, (row, _) in enumerate(rows, start=1):
        rank = Entry("", None) if row[by].value is None else Entry(str(at), at)
        ranked.append({"rank": rank, **row})
    yield Table(title, ranked, [tags for _, tags in rows], f"Ranked by {by}.")


def heat_maps(records: list[Record]) -> Iterable[Table]:
    """Attack x defense: ASR after each repair, the figure of its kind for each detector."""
    asr = asr_among(records)
    for of, metric, title in HEAT:
        groups = _by_defense([r for r in records if metric in r.metrics], of)
        attacks = {attack for cells in groups.values() for attack in cells} - {"none"}
        ordered = sorted(attacks, key=lambda attack: (level_of(attack), attack))
        rows = [
            {
                "attack": _text(attack),
                **{
                    _named(*group, groups): _square(metric, cells.get(attack, []), asr)
                    for group, cells in groups.items()
                },
            }
            for attack in ordered
        ]
        tags = [{"attack": attack, "power": power(attack), "kind": of} for attack in ordered]
        if rows:
            yield Table(title, rows, tags)


def _square(metric: str, records: list[Record], asr: Asr) -> Entry:
    """A figure, or that the attack did not take: then there is nothing to detect or remove."""
    failed = not_taken(records, asr) if records else ""
    return Entry(failed, None, records) if failed else _entry(metric, records)


def cells(records: Iterable[Record]) -> Table:
    """Every cell, a row for each identity, with all that was measured."""
    found = list(records)
    measured = [metric for metric in METRICS if any(metric in r.metrics for r in found)]
    rows, tags = [], []
    for group in tables.seeds_together(found):
        record = group[0]
        cell, kind = record.cell, flavour(record)
        row: Row = {
            "data set": _text(cell.dataset),
            "model": _text(with_params(cell.model, cell.model_params)),
            "attack": _text(with_params(cell.attack, cell.attack_params)),
            "defense": _text(with_params(cell.defense, cell.defense_params)),
            "kind": _text(kind),
            **{METRICS[metric].heading: _entry(metric, group) for metric in measured},
            "seeds": Entry(tables.seeds_of(group), len(group)),
            "identity": _text(record.series[:8]),
        }
        rows.append(row)
        about = {"dataset": cell.dataset, "attack": cell.attack, "kind": kind}
        tags.append({**about, "power": power(cell.attack)})
    return Table("Every cell", rows, tags)
