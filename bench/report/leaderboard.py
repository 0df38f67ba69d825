"""The ranking as people see it: Markdown for a page, CSV, and one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from bench.analysis.plugins import info, power, summary
from bench.analysis.provenance import commit, provenance, seeds_of
from bench.analysis.ranking import TITLES
from bench.analysis.series import Measured
from bench.analysis.statistics import NOTE
from bench.analysis.studies import Study, every_cell, largest_first, studies
from bench.report import tables
from bench.report.figures import file_of
from bench.report.markdown import table as unpadded
from bench.runtime import files
from bench.spec.cell import Cell, Flavour
from bench.spec.metrics import METRICS

MARKER = "leaderboard"

LEADING: tuple[Flavour, ...] = ("repair", "samples")
ASIDE = (", worst", "clean model after it (%)", "FPR, clean model (%)", "attacks", "seeds")
"""What headings end in whose columns are told in full tables alone."""


def write(
    measured: Measured, folder: Path, asked: Sequence[Cell] = (), pictures: Iterable[Path] = ()
) -> list[Path]:
    """Write ``leaderboard.md``, ``.csv`` and ``.html``, the largest data set first.

    In a leaderboard.md that is there already only what stands between the markers changes.
    ``asked``: see `bench.analysis.completeness.lacking`. ``pictures``: folders with the pictures of
    triggers that the page shows, beside ``folder``. Raises BenchError.
    """
    found = studies(measured, asked)
    page = folder / "leaderboard.md"
    if not page.exists():
        files.write(page, f"# Leaderboard\n\n{files.marked(MARKER, '')}\n")
    return [
        files.replace_marked(page, MARKER, markdown(found)),
        files.write(folder / "leaderboard.csv", csv(measured)),
        files.write(folder / "leaderboard.html", html(measured, found, [folder, *pictures])),
    ]


def markdown(found: Iterable[Study]) -> str:
    """What goes between the markers of a page."""
    parts = []
    for study in found:
        for table in study.tables:
            title = f"**{table.title}: {study.dataset} / {study.model}**"
            parts += [title, "", tables.of_squares(table), "", table.note, ""]
        parts += [f"{study.complete} Made by {study.commands}.", ""]
    parts += [
        "Repairs and trainings are ranked by mean DER over attacks, trainings with a proof by "
        "certified accuracy, detectors by the mean of the figure of their kind, attacks by the "
        "ASR that the repair which does best against them leaves; an attack that did not take "
        f"counts in no mean. {NOTE}",
    ]
    return "\n".join(parts)


def leading(found: Iterable[Study]) -> str:
    """Who is ahead on the first study with repairs or detectors: these, in few columns."""
    titles = [TITLES[of] for of in LEADING]
    for study in found:
        shown = [table for title in titles for table in study.tables if table.title == title]
        if shown:
            break
    else:
        return "No records."
    parts = []
    for table in shown:
        rows = [{n: s.text for n, s in row.items() if not n.endswith(ASIDE)} for row in table.rows]
        parts += [f"**{table.title}: {study.dataset} / {study.model}**", "", unpadded(rows), ""]
    seeds = dict.fromkeys(row["seeds"].text for table in shown for row in table.rows)
    return "\n".join(
        [*parts, f"Seeds {', '.join(seeds)}; the commands stand under the whole leaderboard."]
    )


def csv(measured: Measured) -> str:
    """Every cell as numbers, with what made it."""
    flat = []
    for series in largest_first(measured).series:
        dataset, model = series.study
        row: dict[str, Any] = {
            "dataset": dataset,
            "model": model,
            "attack": series.attack,
            "needs": power(series.cell.attack),
            "defense": series.defense,
            "kind": series.flavour,
            **tables.flat(series.figures),
            "seeds": seeds_of(series.records),
            "command": " and ".join(dict.fromkeys(r.command for r in series.records)),
            "commit": ", ".join(dict.fromkeys(commit(r) for r in series.records)),
            "identity": series.key,
        }
        if series.not_applicable:
            row["not_applicable"] = series.not_applicable
        flat.append(row)
    return pd.DataFrame(flat).to_csv(index=False)


def html(measured: Measured, found: Sequence[Study], pictures: Iterable[Path] = ()) -> str:
    """One page that needs neither a network nor a server. ``pictures``: see `write`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    everything = every_cell(measured)
    choices = {
        name: sorted({tags[name] for tags in everything.tags})
        for name in ("dataset", "attack", "kind", "power")
    }
    measures = {metric for series in measured.series for metric in series.figures}
    return environment.get_template("leaderboard.html.jinja").render(
        studies=found,
        note=NOTE,
        cells=everything,
        choices=choices,
        titles=TITLES,
        triggers=list(_thumbnails(largest_first(measured), list(pictures))),
        definitions=[metric for metric in METRICS.values() if metric.name in measures],
        commands=list(dict.fromkeys(r.command for r in measured.records if r.command)),
        by_heading={metric.heading: metric for metric in METRICS.values()},
    )


def _thumbnails(measured: Measured, folders: Iterable[Path]) -> Iterable[dict[str, str]]:
    """Each trigger whose picture lies in one of some folders."""
    seen = set()
    for series in measured.series:
        name = (series.study[0], series.cell.attack)
        if name in seen or series.kind != "attack" or not series.is_plain:
            continue
        candidates = (folder / file_of(series.study, f"trigger-{name[1]}") for folder in folders)
        picture = next((path for path in candidates if path.is_file()), None)
        if picture is not None:
            seen.add(name)
            yield {
                "dataset": name[0],
                "attack": name[1],
                "power": power(name[1]),
                "source": info(name[1], "source"),
                "summary": summary(name[1]),
                "picture": _data_uri(picture),
                "provenance": provenance(series.records),
            }


def _data_uri(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
