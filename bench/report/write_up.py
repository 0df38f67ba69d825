"""The write-up: tables, figures and ``report.md``, all from records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks import ATTACKS
from bench.analysis.claims import standings
from bench.analysis.completeness import NAMES, complete
from bench.analysis.provenance import commands, datasets_of, seeds_of
from bench.analysis.rows import COLUMNS, Row, rows
from bench.analysis.series import Measured, Series, mixed
from bench.analysis.squares import show
from bench.analysis.statistics import NOTE, Estimate
from bench.expected.study import Told
from bench.expected.study import study as told
from bench.report import budget, claims, figures, leaderboard, study, sweep, tables
from bench.runtime import files
from bench.spec.cell import KINDS, Cell, Kind, level_of
from bench.spec.metrics import METRICS
from defenses import DEFENSES
from fixtures.registry import Registry

SHOWN: dict[Kind, dict[str, str]] = {
    "detection": {
        "scatter": "Activations by truth and by verdict",
        "recovered": "Recovered triggers beside the true ones",
    },
    "repair": {
        "repair": "Clean accuracy and ASR before and after",
        "trajectory": "Clean accuracy and ASR along the repair's trajectory",
    },
    "training": {"training": "Clean accuracy and ASR, trained plainly and by the defense"},
}
"""Kind of defense -> its figures, by their key in `bench.report.figures`, and their captions."""


@dataclass(frozen=True)
class WriteUp:
    """Files that were written."""

    report: Path
    tables: list[Path]
    figures: list[Path]


def write_up(
    found: Measured,
    folder: Path,
    asked: Sequence[Cell] = (),
    pictures: Path | None = None,
) -> WriteUp:
    """Write tables (Markdown and CSV), figures, leaderboard and report into ``folder``.

    ``asked``: the cells that there should be; see `bench.analysis.completeness.lacking`.
    ``pictures``: the folder that the records came from, with what was drawn when they were made.
    Raises BenchError where it cannot write.
    """
    by_kind = {kind: some for kind in NAMES if (some := rows(found, kind))}
    drawn = figures.draw_all(found, folder, pictures)
    written = []
    for kind, of_kind in by_kind.items():
        name = NAMES[kind]
        written.append(files.write(folder / f"{name}.md", _table(found, kind, of_kind, asked)))
        written.append(files.write(folder / f"{name}.csv", tables.csv(of_kind)))
    pngs = [path for paths in drawn.values() for path in paths]
    note = f"{NOTE} Made by {commands(found.records)}."
    for path in (*sweep.write(found, folder, note), *budget.write(found, folder, note)):
        (pngs if path.suffix == ".png" else written).append(path)
    written += leaderboard.write(found, folder, asked)
    report = files.write(folder / "report.md", "\n".join(_report(found, by_kind, drawn)))
    return WriteUp(report, written, pngs)


def _table(found: Measured, kind: Kind, of_kind: Sequence[Row], asked: Sequence[Cell]) -> str:
    some = found.of(kind)
    lines = [
        f"# {NAMES[kind].capitalize()}: {datasets_of(some.records)}",
        "",
        tables.markdown(of_kind),
        "",
        f"{NOTE} Seeds {seeds_of(some.records)}. Made by {commands(some.records)}.",
        complete(found, kind, asked),
        *_mixtures(some),
        "",
    ]
    return "\n".join(lines)


def _mixtures(some: Measured) -> list[str]:
    """Why a cell may fill more than one row."""
    return [
        f"{name} fills more than one row, its records are not of one identity: {', '.join(why)}."
        for name, why in mixed(some.series).items()
    ]


def _report(
    found: Measured, by_kind: dict[Kind, list[Row]], pictures: dict[str, list[Path]]
) -> Iterable[str]:
    """The study's six levels: what was done, what it claims, what was measured, the picture."""
    records = found.records
    yield f"# The seed study, level by level: {datasets_of(records)}"
    yield ""
    yield f"Made by {commands(records)}; seeds {seeds_of(records)}. {NOTE}"
    environment = records[0].environment
    yield (
        f"PyTorch {environment['torch']}, {environment['dtype']} on {environment['device']} "
        f"({environment['cpu']}, {environment['threads']} threads)."
    )
    yield from _data(found)
    yield ""
    attacked = found.of("attack")
    for level, name in enumerate(study.attacks(), start=1):
        yield from _attack(f"## Level {level}: {name}", name, attacked, by_kind, pictures)
    for kind in KINDS:
        yield from _defenses(kind, found, by_kind, pictures)
    beyond = [name for name in _attacks_of(attacked) if name not in study.attacks()]
    if beyond:
        yield "## Beyond the study"
        yield ""
    for name in beyond:
        yield from _attack(f"### {name}", name, attacked, by_kind, pictures)
    if attacked.series:
        yield "## All attacks, and the clean model beside them"
        yield ""
        yield tables.markdown(by_kind["attack"])
        yield ""
        yield from _shown(pictures, "gallery", "All triggers side by side")
    yield from _shown(pictures, "heat", "Attack by defense")
    yield from claims.section(standings(found))
    yield "## What each figure means"
    yield ""
    used = {name for series in found.series for name in series.figures}
    for metric in METRICS.values():
        if metric.name in used:
            source = f" ({metric.source})" if metric.source else ""
            yield f"- **{metric.title}**: {metric.definition}{source}."
    yield ""


def _data(found: Measured) -> Iterable[str]:
    """A line for each data set: how many images each split holds, and how many stand in two.

    The defender's are those of the default budget, where it was run.
    """
    told: dict[str, dict[str, int]] = {}
    for series in sorted(found.series, key=lambda s: s.cell.clean is not None):
        for record in series.records:
            if record.data:
                told.setdefault(series.study[0], record.data)
    for dataset, sizes in told.items():
        yield (
            f"{dataset}: {sizes['train']:,} training images, {sizes['clean']:,} for the defender, "
            f"{sizes['validation']:,} for choices, {sizes['test']:,} to test; "
            f"images that stand, pixel for pixel, in two of these: {sizes['duplicates']}."
        )


def _introduced(registry: Registry[Any, Any], name: str) -> str:
    """Summary and source of a plugin; records outlive the plugin that made them."""
    if name not in registry:
        return "A plugin that is not loaded here."
    entry = registry[name]
    return f"{entry.summary} Source: {entry.info.source or '?'}."


def _attacks_of(attacked: Measured) -> list[str]:
    """The attacks that were measured, from the plainest to the stealthiest."""
    names = [s.cell.attack for s in attacked.series if s.cell.attack != "none"]
    return sorted(dict.fromkeys(names), key=level_of)


def _attack(
    heading: str,
    name: str,
    attacked: Measured,
    by_kind: dict[Kind, list[Row]],
    pictures: dict[str, list[Path]],
) -> Iterable[str]:
    """What an attack does, what the study says of it, what was measured; nothing if nothing."""
    own = [
        (series, row)
        for series, row in zip(attacked.series, by_kind.get("attack", []), strict=True)
        if series.cell.attack == name
    ]
    if not own:
        return
    (first, row), *_ = own
    yield heading
    yield ""
    yield (
        f"**Done.** {_introduced(ATTACKS, name)} {_poisoned(first)}; "
        f"the attacker needs: {row['needs']}."
    )
    yield ""
    yield from _said("The study says: clean accuracy / ASR ", told().attack.get(name))
    for _, row in own:
        where = f" on {row['dataset']} / {row['model']}" if len(own) > 1 else ""
        yield f"**Measured{where}.** {_sentence(row)}"
        yield ""
    yield from _shown(pictures, f"trigger-{name}", f"{name} on real test images")


def _said(lead: str, found: Told | None) -> Iterable[str]:
    """What the study says of a plugin, and what its notebooks show against it."""
    if found is not None:
        aside = f" Its notebooks: {found.notebook}." if found.notebook else ""
        yield f"**Claimed.** {lead}{found.says}.{aside}"
        yield ""


def _poisoned(series: Series) -> str:
    """How many samples were poisoned, and towards which class; both may differ by seed."""
    found = [record.poison for record in series.records]
    counts = [str(number) for number in sorted({p["poisoned_samples"] for p in found})]
    covers = [str(number) for number in sorted({p.get("covers", 0) for p in found} - {0})]
    targets = {p["target"] for p in found}
    return (
        f"{_span(counts)} of {found[0]['training_samples']} training samples poisoned"
        f"{f', {_span(covers)} covers' if covers else ''}, towards "
        f"{f'class {targets.pop()}' if len(targets) == 1 else 'another class for every seed'}"
    )


def _span(numbers: Sequence[str]) -> str:
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _defenses(
    kind: Kind,
    found: Measured,
    by_kind: dict[Kind, list[Row]],
    pictures: dict[str, list[Path]],
) -> Iterable[str]:
    """All defenses of a kind under one heading, the study's own first."""
    of_defense: dict[str, list[Row]] = {name: [] for name in study.defenses(kind)}
    for series, row in zip(found.of(kind).series, by_kind.get(kind, []), strict=True):
        of_defense.setdefault(series.cell.defense, []).append(row)
    if not any(of_defense.values()):
        return
    level = study.level_of(kind)
    yield f"## Level {level}: {NAMES[kind]}" if level else f"## {NAMES[kind].capitalize()}"
    yield ""
    for name, some in of_defense.items():
        if some:
            yield from _defense(name, some)
    for key, caption in SHOWN[kind].items():
        yield from _shown(pictures, key, caption)


def _defense(name: str, some: list[Row]) -> Iterable[str]:
    yield f"### {name}"
    yield ""
    yield f"**Done.** {_introduced(DEFENSES, name)}"
    yield ""
    yield from _said("The study says: ", told().defense.get(name))
    yield "**Measured.**"
    yield ""
    yield tables.markdown(some)
    yield ""


def _sentence(row: Row) -> str:
    parts = []
    for name in COLUMNS["attack"]:
        figure = row[name]
        if isinstance(figure, Estimate):
            metric = METRICS[name]
            unit = f" {metric.unit}" if metric.unit else ""
            parts.append(f"{metric.title} {show(name, figure)}{unit}")
    return "; ".join(parts) + "."


def _shown(pictures: dict[str, list[Path]], key: str, caption: str) -> Iterable[str]:
    for path in pictures.get(key, []):
        yield f"![{caption}]({path.name})"
        yield ""
