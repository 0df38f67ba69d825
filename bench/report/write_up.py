"""The write-up: tables, figures and ``report.md``, all from records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks import ATTACKS
from bench.report import figures, leaderboard, study, sweep, tables
from bench.runtime import files
from bench.spec.cell import Cell, Kind, level_of
from bench.spec.metrics import METRICS
from bench.store.records import Record
from defenses import DEFENSES
from fixtures.registry import Registry

NOTE = "Mean over seeds; ± is half the 95 % interval (Student's t), left out for a single seed."

SHOWN: dict[Kind, dict[str, str]] = {
    "detection": {
        "scatter": "Activations by truth and by verdict",
        "recovered": "Recovered triggers beside the true ones",
    },
    "repair": {
        "repair": "Clean accuracy and ASR before and after",
        "trajectory": "Clean accuracy and ASR along the repair's trajectory",
    },
}
"""Kind of defense -> its figures, by their key in `bench.report.figures`, and their captions."""


@dataclass(frozen=True)
class WriteUp:
    """Files that were written."""

    report: Path
    tables: list[Path]
    figures: list[Path]


def write_up(records: Sequence[Record], folder: Path, asked: Sequence[Cell] = ()) -> WriteUp:
    """Write tables (Markdown and CSV), figures, leaderboard and report into ``folder``.

    ``asked``: the cells that there should be; see `bench.report.tables.lacking`. Raises
    BenchError where it cannot write.
    """
    records = tables.in_order(records)
    pictures = figures.draw_all(records, folder)
    written = []
    for kind, name in tables.NAMES.items():
        chosen = tables.select(records, kind)
        if chosen:
            text = _table(records, kind, asked)
            written.append(files.write(folder / f"{name}.md", text))
            written.append(files.write(folder / f"{name}.csv", tables.csv(records, kind)))
    drawn = [path for paths in pictures.values() for path in paths]
    note = f"{NOTE} Made by {tables.commands(records)}."
    for path in sweep.write(records, folder, note):
        (drawn if path.suffix == ".png" else written).append(path)
    written += leaderboard.write(records, folder, asked)
    report = files.write(folder / "report.md", "\n".join(_report(records, pictures)))
    return WriteUp(report, written, drawn)


def _table(records: Sequence[Record], kind: Kind, asked: Sequence[Cell]) -> str:
    chosen = tables.select(records, kind)
    title = tables.NAMES[kind].capitalize()
    lines = [
        f"# {title}: {tables.datasets_of(chosen)}",
        "",
        tables.markdown(records, kind),
        "",
        f"{NOTE} Seeds {tables.seeds_of(chosen)}. Made by {tables.commands(chosen)}.",
        tables.complete(records, kind, asked),
        *_mixtures(chosen),
        "",
    ]
    return "\n".join(lines)


def _mixtures(records: Sequence[Record]) -> list[str]:
    """Why a cell may fill more than one row."""
    return [
        f"{name} fills more than one row, its records are not of one identity: {', '.join(why)}."
        for name, why in tables.mixed(records).items()
    ]


def _report(records: Sequence[Record], pictures: dict[str, list[Path]]) -> Iterable[str]:
    """The study's six levels: what was done, what it claims, what was measured, the picture."""
    some = records[0]
    yield f"# The seed study, level by level: {tables.datasets_of(records)}"
    yield ""
    yield f"Made by {tables.commands(records)}; seeds {tables.seeds_of(records)}. {NOTE}"
    environment = some.environment
    yield (
        f"PyTorch {environment['torch']}, {environment['dtype']} on {environment['device']} "
        f"({environment['cpu']}, {environment['threads']} threads)."
    )
    yield ""
    for level, name in enumerate(study.attacks(), start=1):
        yield from _attack(f"## Level {level}: {name}", name, records, pictures)
    yield from _defenses("detection", records, pictures)
    yield from _defenses("repair", records, pictures)
    attacked = tables.select(records, "attack")
    beyond = [name for name in _attacks_of(attacked) if name not in study.attacks()]
    if beyond:
        yield "## Beyond the study"
        yield ""
    for name in beyond:
        yield from _attack(f"### {name}", name, records, pictures)
    if attacked:
        yield "## All attacks, and the clean model beside them"
        yield ""
        yield tables.markdown(attacked, "attack")
        yield ""
        yield from _shown(pictures, "gallery", "All triggers side by side")
    yield from _shown(pictures, "heat", "Attack by defense")
    yield "## What each figure means"
    yield ""
    used = {name for record in records for name in record.metrics}
    for metric in METRICS.values():
        if metric.name in used:
            source = f" ({metric.source})" if metric.source else ""
            yield f"- **{metric.title}**: {metric.definition}{source}."
    yield ""


def _introduced(registry: Registry[Any, Any], name: str) -> str:
    """Summary and source of a plugin; records outlive the plugin that made them."""
    if name not in registry:
        return "A plugin that is not loaded here."
    entry = registry[name]
    return f"{entry.summary} Source: {entry.info.source or '?'}."


def _attacks_of(records: Iterable[Record]) -> list[str]:
    """The attacks that were measured, from the plainest to the stealthiest."""
    names = [r.cell.attack for r in records if r.cell.attack != "none"]
    return sorted(dict.fromkeys(names), key=level_of)


def _attack(
    heading: str, name: str, records: Iterable[Record], pictures: dict[str, list[Path]]
) -> Iterable[str]:
    """What an attack does, what the study claims of it, what was measured; nothing if nothing."""
    own = [r for r in records if r.cell.attack == name and r.kind == "attack"]
    if not own:
        return
    measured = tables.rows(own, "attack")
    row = measured[0]
    poison = own[0].poison
    yield heading
    yield ""
    yield (
        f"**Done.** {_introduced(ATTACKS, name)} {poison['poisoned_samples']} of "
        f"{poison['training_samples']} training samples poisoned towards class "
        f"{poison['target']}; the attacker needs: {row['needs']}."
    )
    yield ""
    if row["claim"]:
        contradicted = tables.notebook(name)
        aside = f" Its notebook: {contradicted}." if contradicted else ""
        yield f"**Claimed.** Clean accuracy / ASR {row['claim']}.{aside}"
        yield ""
    for row in measured:
        where = f" on {row['dataset']} / {row['model']}" if len(measured) > 1 else ""
        yield f"**Measured{where}.** {_sentence(row, tables.COLUMNS['attack'])}"
        yield ""
    yield from _shown(pictures, f"trigger-{name}", f"{name} on real test images")


def _defenses(
    kind: Kind, records: Iterable[Record], pictures: dict[str, list[Path]]
) -> Iterable[str]:
    """All defenses of a kind under one heading, the study's own first."""
    chosen = tables.select(records, kind)
    if not chosen:
        return
    names = dict.fromkeys([*study.defenses(kind), *(r.cell.defense for r in chosen)])
    yield f"## Level {study.level_of(kind)}: {tables.NAMES[kind]}"
    yield ""
    for name in names:
        own = [r for r in chosen if r.cell.defense == name]
        if own:
            yield from _defense(name, kind, own)
    for key, caption in SHOWN[kind].items():
        yield from _shown(pictures, key, caption)


def _defense(name: str, kind: Kind, records: list[Record]) -> Iterable[str]:
    yield f"### {name}"
    yield ""
    yield f"**Done.** {_introduced(DEFENSES, name)}"
    yield ""
    claimed, contradicted = tables.claim("any", name), tables.notebook(name)
    if claimed:
        yield f"**Claimed.** {claimed.capitalize()}. Its notebooks: {contradicted}."
        yield ""
    yield "**Measured.**"
    yield ""
    yield tables.markdown(records, kind)
    yield ""


def _sentence(row: dict[str, object], columns: list[str]) -> str:
    parts = []
    for name in columns:
        value = row[name]
        if isinstance(value, tables.Estimate):
            metric = METRICS[name]
            unit = f" {metric.unit}" if metric.unit else ""
            parts.append(f"{metric.title} {tables.show(name, value)}{unit}")
    return "; ".join(parts) + "."


def _shown(pictures: dict[str, list[Path]], key: str, caption: str) -> Iterable[str]:
    for path in pictures.get(key, []):
        yield f"![{caption}]({path.name})"
        yield ""
