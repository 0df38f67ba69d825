"""Which figures records allow, and their files. Nothing is measured here."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from bench.analysis.heat import heat_maps
from bench.analysis.nulls import is_null
from bench.analysis.series import Measured
from bench.report.drawings import (
    before_and_after,
    gallery,
    heat,
    recovered_triggers,
    scatter,
    trajectory,
)
from bench.report.proofs import proofs
from bench.runtime import files
from bench.spec.cell import Kind
from bench.store.records import Record

Drawing = Callable[[], Figure]
MOST_BARS = 12
"""Attacks whose bars can be read side by side; of more the heat map tells."""


def draw_all(measured: Measured, folder: Path, kept: Path | None = None) -> dict[str, list[Path]]:
    """Draw every figure that the records allow into ``folder``; figure's topic -> files.

    What records without details do not allow is taken from ``kept``, the folder that they came
    from, if it was drawn there when they were made. Raises BenchError where it cannot write.
    """
    drawn: dict[str, list[Path]] = {}
    # Plugins as they stand: what differs in a parameter would share their names and bars.
    plain = measured.plain
    for study in dict.fromkeys(series.study for series in measured.series):
        some = plain.only(s for s in plain.series if s.study == study).of_one_identity
        every = measured.only(s for s in measured.series if s.study == study).of_one_identity
        found = figures_of(some) if some.series else {}
        for name, drawing in (found | proofs_of(every)).items():
            path = folder / file_of(study, name)
            old = (kept or folder) / path.name
            if drawing is not None:
                files.write(path, png(drawing()))
            elif not old.is_file():
                continue
            elif old.resolve() != path.resolve():
                files.write(path, old.read_bytes())
            topic = name if name.startswith("trigger-") else name.partition("-")[0]
            drawn.setdefault(topic, []).append(path)
    return drawn


def file_of(study: tuple[str, str], name: str) -> str:
    """``mnist-simplecnn-trigger-pixel.png``."""
    return f"{'-'.join(study)}-{name}.png".replace(" ", "+")


def png(figure: Figure) -> bytes:
    """The figure as a file holds it; it is empty afterwards, so that its memory is free at once."""
    buffer = io.BytesIO()
    margins = None if figure.get_layout_engine() else "tight"  # a layout has cut them already
    figure.savefig(buffer, format="png", dpi=110, bbox_inches=margins)
    figure.clear()
    return buffer.getvalue()


def figures_of(study: Measured) -> dict[str, Drawing | None]:
    """Every figure of one data set and model by its name, each cell of one identity.

    None instead of how to draw it: it needs details that the records do not carry.
    """
    found: dict[str, Drawing | None] = {}
    # A clean model has no trigger; what of its images changes is what JPEG files do not settle.
    attacked = (r for r in _first_seeds(study, "attack") if r.cell.attack != "none")
    triggers = [record for record in attacked if record.metrics.get("changed")]
    if triggers:
        found["gallery"] = _drawing(gallery, "gallery", triggers)
        for record in triggers:
            found[f"trigger-{record.cell.attack}"] = _drawing(gallery, "gallery", [record])
    if maps := list(heat_maps(study)):
        found["heat"] = partial(heat, maps, study.records)
    detected = _by_defense(_first_seeds(study, "detection"))
    for topic, draw in (("recovered", recovered_triggers), ("scatter", scatter)):
        for defense, records in detected.items():
            if any(topic in record.details or not record.details for record in records):
                found[f"{topic}-{defense}"] = _drawing(draw, topic, records)
    changing = {s.cell.defense: s.kind for s in study.series if s.kind in ("repair", "training")}
    for defense, kind in changing.items():
        repaired = study.only(s for s in study.series if s.cell.defense == defense)
        if 0 < sum(bool(series.figures) for series in repaired.series) <= MOST_BARS:
            nulls = [s for s in study.series if s.kind == kind and is_null(s.cell.defense)]
            others = [null for null in nulls if null.cell.defense != defense]
            found[f"{kind}-{defense}"] = partial(before_and_after, repaired, others)
    for defense, records in _by_defense(study.of("repair").records).items():
        if any("trajectory" in record.details or not record.details for record in records):
            found[f"trajectory-{defense}"] = _drawing(trajectory, "trajectory", records)
    return found


def proofs_of(study: Measured) -> dict[str, Drawing | None]:
    """The figure of certified trainings: with any parameters, each has a curve of its own."""
    proven = study.only(s for s in study.series if s.flavour == "certified" and s.figures)
    if not proven.series:
        return {}
    told = [s for s in proven.series if "certificate" in s.records[0].details]
    return {"proofs": partial(proofs, study.only(told)) if told else None}


def _drawing(
    draw: Callable[[Sequence[Record]], Figure], topic: str, records: Sequence[Record]
) -> Drawing | None:
    """How to draw what stands under ``topic`` in the details of some records; None if nowhere."""
    some = [record for record in records if record.details.get(topic)]
    return partial(draw, some) if some else None


def _first_seeds(study: Measured, kind: Kind) -> list[Record]:
    """The record of the lowest seed of each series of a kind, attacks in their order."""
    order = list(dict.fromkeys(series.attack for series in study.series))
    chosen = sorted(study.of(kind).series, key=lambda series: order.index(series.attack))
    return [min(series.records, key=lambda record: record.cell.seed) for series in chosen]


def _by_defense(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.cell.defense, []).append(record)
    return found
