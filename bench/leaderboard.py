"""Who is ahead: defenses and attacks ranked, as Markdown, CSV and one self-contained page.

The ranking is simple. Repairs by their mean DER over all attacks, detectors by the mean of the
figure of their kind (F1 for samples, correct verdicts for models, AUROC for inputs), each with its
worst case beside it. Attacks by the ASR that is left after the repair that does best against them,
with their stealth beside it. Only plugins at their defaults are ranked; of a cell with records of
several identities the one with most seeds is, and every identity has its own row in the list of
cells.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
import pandas as pd
from matplotlib.image import imsave

from bench import figures, files, tables
from bench.cell import level_of
from bench.metrics import METRICS
from bench.records import Record
from bench.tables import estimate, with_params

MARKER = "leaderboard"

Flavour = Literal["attack", "samples", "model", "inputs", "repair"]
RANKED_BY: dict[Flavour, str] = {
    "repair": "der",
    "samples": "f1",
    "model": "verdict_correct",
    "inputs": "auroc",
}
TITLES: dict[Flavour, str] = {
    "repair": "Repairs",
    "samples": "Detectors of poisoned samples",
    "model": "Detectors of backdoored models",
    "inputs": "Detectors of triggered inputs",
    "attack": "Attacks",
}
BESIDE: dict[Flavour, list[str]] = {
    "repair": ["asr", "clean_accuracy"],
    "samples": ["tpr", "fpr"],
    "model": ["target_found"],
    "inputs": ["tpr_at_5_fpr"],
}
STEALTH = ["linf", "psnr", "ssim", "changed"]


@dataclass
class Figure:
    """One figure of a table: ``value`` to sort by, ``text`` to read, and the records behind it."""

    text: str
    value: float | str | None
    behind: list[Record] = field(default_factory=list)

    @property
    def provenance(self) -> str:
        """Seeds, commands, commits: what a reader needs to make the figure again."""
        return provenance(self.behind)


Row = dict[str, Figure]


@dataclass
class Table:
    """``rows`` in the order of the ranking; ``tags`` beside each row are what a page filters by."""

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


def flavour(record: Record) -> Flavour:
    """What kind of plugin a record judges, by what was measured: plugins may be gone by now."""
    if record.kind != "detection":
        return "attack" if record.kind == "attack" else "repair"
    if "verdict_correct" in record.metrics:
        return "model"
    return "samples" if "false_labels" in record.metrics else "inputs"


def provenance(records: Iterable[Record]) -> str:
    found = list(records)
    seeds = ", ".join(str(seed) for seed in sorted({r.cell.seed for r in found}))
    commands = " and ".join(dict.fromkeys(r.command or "code, not a command" for r in found))
    commits = ", ".join(dict.fromkeys(_commit(r) for r in found))
    return f"seeds {seeds}; {commands}; commit {commits}"


def _commit(record: Record) -> str:
    commit = record.environment.get("commit")
    if commit is None:
        return "unknown"
    return str(commit)[:10] + (" with changes" if record.environment.get("dirty") else "")


def studies(records: Iterable[Record]) -> list[Study]:
    """The rankings of each data set and model."""
    plain = [r for r in records if not (r.cell.attack_params or r.cell.defense_params)]
    found = []
    for name in dict.fromkeys((r.cell.dataset, r.cell.model) for r in plain):
        some = [r for r in plain if (r.cell.dataset, r.cell.model) == name]
        ranked = tables.of_one_identity(some)
        sentences = [
            tables.complete(some, kind) for kind in tables.NAMES if tables.select(some, kind)
        ]
        found.append(
            Study(
                *name,
                tables=[*_defenses(ranked), *_attacks(ranked)],
                heat=list(_heat_maps(ranked)),
                complete=" ".join(sentences),
            )
        )
    return found


def _groups(records: Iterable[Record], of: Flavour) -> dict[tuple[str, str], list[Record]]:
    """(attack, defense) -> its records over seeds."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if flavour(record) == of:
            groups.setdefault((record.cell.attack, record.cell.defense), []).append(record)
    return groups


def _figure(metric: str, records: Sequence[Record], *, suffix: str = "") -> Figure:
    values = [r.metrics[metric] for r in records if metric in r.metrics]
    if not values:
        return Figure("", None)
    found = estimate(values)
    return Figure(tables.show(metric, found) + suffix, found.mean, list(records))


def _text(text: str) -> Figure:
    return Figure(text, text)


def _defenses(records: list[Record]) -> Iterable[Table]:
    attacks = {r.cell.attack for r in records if r.cell.attack != "none"}
    for of, metric in RANKED_BY.items():
        groups = _groups(records, of)
        rows: list[tuple[Row, dict[str, str]]] = []
        for defense in dict.fromkeys(defense for _, defense in groups):
            mine = {attack: group for (attack, d), group in groups.items() if d == defense}
            on_attacks = {a: g for a, g in mine.items() if a != "none" and metric in g[0].metrics}
            if on_attacks:
                row = _defense_row(defense, metric, on_attacks, mine.get("none", []), of)
                row["attacks"] = Figure(f"{len(on_attacks)} of {len(attacks)}", len(on_attacks))
                rows.append((row, {"kind": of}))
        yield from _ranked(TITLES[of], rows, METRICS[metric].heading + ", mean")


def _defense_row(
    defense: str,
    metric: str,
    on_attacks: dict[str, list[Record]],
    on_clean: list[Record],
    of: Flavour,
) -> Row:
    everything = [record for group in on_attacks.values() for record in group]
    means = {
        attack: float(np.mean([r.metrics[metric] for r in group]))
        for attack, group in on_attacks.items()
    }
    worst = min(means, key=lambda attack: means[attack])
    row = {"defense": _text(defense)}
    heading = METRICS[metric].heading
    row[f"{heading}, mean"] = _over_attacks(metric, on_attacks)
    row[f"{heading}, worst"] = _figure(metric, on_attacks[worst], suffix=f" ({worst})")
    for name in BESIDE[of]:
        row[f"{METRICS[name].heading}, mean"] = _over_attacks(name, on_attacks)
    if of != "repair":
        row[METRICS["fpr_clean_model"].heading] = _figure("fpr", on_clean)
    else:
        row["clean model after it (%)"] = _figure("clean_accuracy", on_clean)
    row["seeds"] = Figure(tables.seeds_of(everything), tables.seeds_of(everything))
    return row


def _over_attacks(metric: str, on_attacks: dict[str, list[Record]]) -> Figure:
    """Mean over attacks, taken seed by seed, so that the interval is over seeds."""
    by_seed: dict[int, list[float]] = {}
    for group in on_attacks.values():
        for record in group:
            if metric in record.metrics:
                by_seed.setdefault(record.cell.seed, []).append(record.metrics[metric])
    whole = [float(np.mean(v)) for v in by_seed.values() if len(v) == len(on_attacks)]
    if not whole:
        return Figure("", None)
    found = estimate(whole)
    behind = [record for group in on_attacks.values() for record in group]
    return Figure(tables.show(metric, found), found.mean, behind)


def _attacks(records: list[Record]) -> Iterable[Table]:
    own, repaired = _groups(records, "attack"), _groups(records, "repair")
    detected = _groups(records, "samples")
    names = dict.fromkeys(r.cell.attack for r in records if r.cell.attack != "none")
    rows: list[tuple[Row, dict[str, str]]] = []
    for attack in names:
        group = own.get((attack, "none"), [])
        left = _best(attack, repaired, "asr", min)
        seen = _best(attack, detected, "f1", max)
        row: Row = {"attack": _text(attack), "needs": _text(tables.info(attack, "needs"))}
        row["ASR left after the best repair (%)"] = left
        row["ASR (%)"] = _figure("asr", group)
        row["clean accuracy (%)"] = _figure("clean_accuracy", group)
        row["F1 of the best detector"] = seen
        for metric in STEALTH:
            row[METRICS[metric].heading] = _figure(metric, group)
        rows.append((row, {"attack": attack, "power": tables.info(attack, "needs")}))
    yield from _ranked(TITLES["attack"], rows, "ASR left after the best repair (%)")


def _best(
    attack: str,
    groups: dict[tuple[str, str], list[Record]],
    metric: str,
    choose: Callable[..., str],
) -> Figure:
    mine = {d: g for (a, d), g in groups.items() if a == attack and metric in g[0].metrics}
    if not mine:
        return Figure("", None)
    means = {d: float(np.mean([r.metrics[metric] for r in g])) for d, g in mine.items()}
    best = choose(means, key=lambda defense: means[defense])
    return _figure(metric, mine[best], suffix=f" ({best})")


def _ranked(title: str, rows: list[tuple[Row, dict[str, str]]], by: str) -> Iterable[Table]:
    """Best first; whoever has no figure to be ranked by comes last."""
    if rows:
        ordered = sorted(rows, key=lambda pair: -(float(pair[0][by].value or 0.0)))
        ranked = [
            {"rank": Figure(str(at), at), **row} for at, (row, _) in enumerate(ordered, start=1)
        ]
        yield Table(title, ranked, [tags for _, tags in ordered], f"Ranked by {by}.")


def _heat_maps(records: list[Record]) -> Iterable[Table]:
    """Attack x defense: ASR after each repair, F1 of each detector."""
    wanted: list[tuple[Flavour, str, str]] = [
        ("repair", "asr", "ASR after repair (%)"),
        ("samples", "f1", "F1 of detection"),
    ]
    for of, metric, title in wanted:
        groups = {
            pair: group
            for pair, group in _groups(records, of).items()
            if pair[0] != "none" and metric in group[0].metrics
        }
        attacks = sorted({a for a, _ in groups}, key=lambda a: (level_of(a), a))
        rows = [
            {"attack": _text(attack)}
            | {
                defense: _figure(metric, groups.get((attack, defense), []))
                for defense in dict.fromkeys(d for _, d in groups)
            }
            for attack in attacks
        ]
        tags = [{"attack": a, "power": tables.info(a, "needs"), "kind": of} for a in attacks]
        if rows:
            yield Table(title, rows, tags)


def cells(records: Iterable[Record]) -> Table:
    """Every cell, a row for each identity, with all that was measured."""
    found = list(records)
    rows, tags = [], []
    for group in tables.seeds_together(found):
        record = group[0]
        cell, kind = record.cell, flavour(record)
        row: Row = {
            "data set": _text(cell.dataset),
            "model": _text(cell.model),
            "attack": _text(with_params(cell.attack, cell.attack_params)),
            "defense": _text(with_params(cell.defense, cell.defense_params)),
            "kind": _text(kind),
        }
        for metric in METRICS:
            if any(metric in r.metrics for r in found):
                row[METRICS[metric].heading] = _figure(metric, group)
        row["seeds"] = Figure(tables.seeds_of(group), len(group))
        row["identity"] = _text(record.lineage[:8])
        rows.append(row)
        tags.append(
            {
                "dataset": cell.dataset,
                "attack": cell.attack,
                "kind": kind,
                "power": tables.info(cell.attack, "needs") or "nothing",
            }
        )
    return Table("Every cell", rows, tags)


def markdown(records: Sequence[Record]) -> str:
    """What goes between the markers of a page."""
    parts = []
    for study in studies(records):
        for table in study.tables:
            shown = [{name: figure.text for name, figure in row.items()} for row in table.rows]
            frame = pd.DataFrame(shown)
            text = frame.to_markdown(index=False, disable_numparse=True)
            parts += [f"**{table.title}: {study.dataset} / {study.model}**", "", text, ""]
        some = [
            r for r in records if (r.cell.dataset, r.cell.model) == (study.dataset, study.model)
        ]
        parts += [f"{study.complete} Made by {tables.commands(some)}.", ""]
    parts += [
        "Repairs are ranked by mean DER over attacks, detectors by the mean of the figure of their "
        "kind, attacks by the ASR that the repair which does best against them leaves; ± is half "
        "the 95 % interval over seeds.",
    ]
    return "\n".join(parts)


def csv(records: Iterable[Record]) -> str:
    """Every cell as numbers, with what made it."""
    flat = []
    for group in tables.seeds_together(records):
        record = group[0]
        row: dict[str, Any] = {
            "dataset": record.cell.dataset,
            "model": record.cell.model,
            "attack": with_params(record.cell.attack, record.cell.attack_params),
            "needs": tables.info(record.cell.attack, "needs"),
            "defense": with_params(record.cell.defense, record.cell.defense_params),
            "kind": flavour(record),
        }
        for metric in record.metrics:
            values = [r.metrics[metric] for r in group if metric in r.metrics]
            row |= tables.flat({metric: estimate(values)})
        row |= {
            "seeds": tables.seeds_of(group),
            "command": " and ".join(dict.fromkeys(r.command for r in group)),
            "commit": ", ".join(dict.fromkeys(_commit(r) for r in group)),
            "identity": record.lineage,
        }
        flat.append(row)
    return pd.DataFrame(flat).to_csv(index=False)


def html(records: Sequence[Record]) -> str:
    """One page that needs neither a network nor a server."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    everything = cells(records)
    choices = {
        name: sorted({tags[name] for tags in everything.tags if tags.get(name)})
        for name in ("dataset", "attack", "kind", "power")
    }
    return environment.get_template("leaderboard.html.jinja").render(
        studies=studies(records),
        cells=everything,
        choices=choices,
        labels={**TITLES, "dataset": "data set", "power": "attacker's power", "kind": "kind"},
        triggers=list(_thumbnails(records)),
        definitions=[m for m in METRICS.values() if any(m.name in r.metrics for r in records)],
        commands=list(dict.fromkeys(r.command for r in records if r.command)),
        by_heading={m.heading: m for m in METRICS.values()},
    )


def _thumbnails(records: Iterable[Record]) -> Iterable[dict[str, str]]:
    """Each trigger on one test image: clean, triggered, and the difference amplified."""
    seen = set()
    for record in records:
        name = (record.cell.dataset, record.cell.attack)
        if name in seen or not record.metrics.get("changed") or "gallery" not in record.details:
            continue
        seen.add(name)
        gallery = record.details["gallery"]
        clean, stamped = (figures.images_of(gallery[key])[0] for key in ("clean", "triggered"))
        difference = np.abs(stamped - clean)
        difference = difference / max(float(difference.max()), 1e-6)
        yield {
            "dataset": name[0],
            "attack": name[1],
            "power": tables.info(name[1], "needs"),
            "source": str(tables.info(name[1], "source")),
            "summary": tables.summary(name[1]),
            "clean": _data_uri(clean),
            "triggered": _data_uri(stamped),
            "difference": _data_uri(difference),
            "provenance": provenance([record]),
        }


def _data_uri(image: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    buffer = io.BytesIO()
    pixels = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    imsave(buffer, np.ascontiguousarray(np.clip(pixels, 0, 1)), format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write(records: Sequence[Record], folder: Path, embed: Sequence[Path] = ()) -> list[Path]:
    """Write ``leaderboard.md``, ``.csv`` and ``.html``; in ``embed`` and in a leaderboard.md that
    is there already, only what stands between the markers changes. Raises BenchError.
    """
    records = tables.in_order(records)
    text = markdown(records)
    page = folder / "leaderboard.md"
    if not page.exists():
        files.write(page, f"# Leaderboard\n\n{files.marked(MARKER, '')}\n")
    return [
        *(files.replace_marked(path, MARKER, text) for path in (page, *embed)),
        files.write(folder / "leaderboard.csv", csv(records)),
        files.write(folder / "leaderboard.html", html(records)),
    ]
