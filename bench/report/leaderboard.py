"""The ranking as people see it: Markdown for a page, CSV, and one self-contained page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.image import imsave
from numpy.typing import NDArray

from bench.analysis import ranking
from bench.analysis.ranking import TITLES, commit, flavour, power
from bench.report import figures, tables
from bench.report.tables import estimate, with_params
from bench.runtime import files
from bench.spec.cell import Cell
from bench.spec.metrics import METRICS
from bench.store.records import Record

MARKER = "leaderboard"


def write(records: Sequence[Record], folder: Path, asked: Sequence[Cell] = ()) -> list[Path]:
    """Write ``leaderboard.md``, ``.csv`` and ``.html``, the largest data set first.

    In a leaderboard.md that is there already only what stands between the markers changes.
    ``asked``: see `bench.report.tables.lacking`. Raises BenchError.
    """
    text = markdown(records, asked)
    page = folder / "leaderboard.md"
    if not page.exists():
        files.write(page, f"# Leaderboard\n\n{files.marked(MARKER, '')}\n")
    return [
        files.replace_marked(page, MARKER, text),
        files.write(folder / "leaderboard.csv", csv(records)),
        files.write(folder / "leaderboard.html", html(records, asked)),
    ]


def markdown(records: Sequence[Record], asked: Sequence[Cell] = ()) -> str:
    """What goes between the markers of a page."""
    parts = []
    for study in ranking.studies(_ordered(records), asked):
        for table in study.tables:
            shown = [{name: entry.text for name, entry in row.items()} for row in table.rows]
            text = pd.DataFrame(shown).to_markdown(index=False, disable_numparse=True)
            parts += [f"**{table.title}: {study.dataset} / {study.model}**", "", text, ""]
        parts += [f"{study.complete} Made by {study.commands}.", ""]
    parts += [
        "Repairs are ranked by mean DER over attacks, detectors by the mean of the figure of their "
        "kind, attacks by the ASR that the repair which does best against them leaves; an attack "
        "that did not take counts in no mean. ± is half the 95 % interval over seeds "
        "(Student's t).",
    ]
    return "\n".join(parts)


def csv(records: Iterable[Record]) -> str:
    """Every cell as numbers, with what made it."""
    flat = []
    for group in tables.seeds_together(_ordered(records)):
        record = group[0]
        row: dict[str, Any] = {
            "dataset": record.cell.dataset,
            "model": with_params(record.cell.model, record.cell.model_params),
            "attack": with_params(record.cell.attack, record.cell.attack_params),
            "needs": power(record.cell.attack),
            "defense": with_params(record.cell.defense, record.cell.defense_params),
            "kind": flavour(record),
        }
        for metric in record.metrics:
            values = [r.metrics[metric] for r in group if metric in r.metrics]
            row |= tables.flat({metric: estimate(values)})
        row |= {
            "seeds": tables.seeds_of(group),
            "command": " and ".join(dict.fromkeys(r.command for r in group)),
            "commit": ", ".join(dict.fromkeys(commit(r) for r in group)),
            "identity": record.series,
        }
        flat.append(row)
    return pd.DataFrame(flat).to_csv(index=False)


def html(records: Sequence[Record], asked: Sequence[Cell] = ()) -> str:
    """One page that needs neither a network nor a server."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    records = _ordered(records)
    everything = ranking.cells(records)
    choices = {
        name: sorted({tags[name] for tags in everything.tags})
        for name in ("dataset", "attack", "kind", "power")
    }
    return environment.get_template("leaderboard.html.jinja").render(
        studies=ranking.studies(records, asked),
        cells=everything,
        choices=choices,
        titles=TITLES,
        triggers=list(_thumbnails(records)),
        definitions=[m for m in METRICS.values() if any(m.name in r.metrics for r in records)],
        commands=list(dict.fromkeys(r.command for r in records if r.command)),
        by_heading={m.heading: m for m in METRICS.values()},
    )


def _ordered(records: Iterable[Record]) -> list[Record]:
    return ranking.largest_first(tables.in_order(records))


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
        yield {
            "dataset": name[0],
            "attack": name[1],
            "power": power(name[1]),
            "source": tables.info(name[1], "source"),
            "summary": tables.summary(name[1]),
            "clean": _data_uri(clean),
            "triggered": _data_uri(stamped),
            "difference": _data_uri(difference / max(float(difference.max()), 1e-6)),
            "provenance": ranking.provenance([record]),
        }


def _data_uri(image: NDArray[np.float64]) -> str:
    """``image`` [H, W, C] in [0, 1]."""
    buffer = io.BytesIO()
    pixels = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    imsave(buffer, np.ascontiguousarray(np.clip(pixels, 0, 1)), format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
