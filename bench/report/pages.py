"""Pages with parts that are made, not written: each stands between two markers of its name.

A page gets the parts that it has markers for: those of records (``study``, ``leaderboard``,
``leading``, ``agreement``, ``parity``, ``duels``, ``odds``) and those of the code (``attacks``,
``defenses``, ``metrics``, ``suites``), so that a page says what was measured and what there is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attacks import ATTACKS
from bench.analysis.series import Measured
from bench.analysis.studies import studies
from bench.report import agreement, duels, leaderboard, odds, parity, study
from bench.report.markdown import table
from bench.runtime import files
from bench.spec import suites
from bench.spec.cell import KIND, flavour_of, level_of, sees
from bench.spec.metrics import METRICS
from bench.spec.opponents import defeated_by
from defenses import DEFENSES
from fixtures.errors import BenchError
from fixtures.registry import Registered, Registry

T = TypeVar("T")
Info = TypeVar("Info")


def embed(measured: Measured, pages: Iterable[Path]) -> list[Path]:
    """Make the parts of some pages anew; a folder stands for its pages that have any.

    Nothing else in them changes. Raises BenchError, before anything is written, for a page without
    one of the markers.
    """
    wanted = [(page, sections(page)) for given in pages for page in _pages(given)]
    parts = {name: SECTIONS[name](measured) for name in {n for _, names in wanted for n in names}}
    for page, names in wanted:
        for name in names:
            files.replace_marked(page, name, parts[name])
    return [page for page, _ in wanted]


def sections(page: Path) -> list[str]:
    """The parts that a page has markers for. Raises BenchError where it has none."""
    found = _marked(page)
    if not found:
        first, *others = SECTIONS
        raise BenchError(
            f"{page}: no <!-- {first}: begin --> with a <!-- {first}: end --> after it, "
            f"nor those of {', '.join(others)}"
        )
    return found


def _pages(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    found = [page for page in sorted(given.glob("*.md")) if _marked(page)]
    if not found:
        raise BenchError(f"{given}: no page in it has markers of {', '.join(SECTIONS)}")
    return found


def _marked(page: Path) -> list[str]:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{page}: {getattr(error, 'strerror', error)}") from error
    return [
        name
        for name in SECTIONS
        if f"<!-- {name}: end -->" in text.partition(f"<!-- {name}: begin -->")[2]
    ]


def attacks(_measured: Measured | None = None) -> str:
    """Every built-in attack: a table, and what each one's docstring says."""
    found = sorted(_built_in(ATTACKS), key=lambda entry: (level_of(entry.name), entry.name))
    rows = [
        {
            "attack": f"[`{entry.name}`](#{entry.name})",
            "what it does": entry.summary,
            "needs": entry.info.needs,
            "poisons (%)": _poisons(entry.name),
            "made against": ", ".join(f"`{name}`" for name in entry.info.made_against),
            "source": entry.info.source,
        }
        for entry in found
    ]
    return _table_and_words(rows, found)


def defenses(_measured: Measured | None = None) -> str:
    """Every built-in defense: a table, and what each one's docstring says."""
    kinds = list(KIND)
    found = sorted(
        _built_in(DEFENSES), key=lambda entry: (kinds.index(flavour_of(entry.name)), entry.name)
    )
    rows = [
        {
            "defense": f"[`{entry.name}`](#{entry.name})",
            "kind": flavour_of(entry.name),
            "sees": sees(entry.name),
            "what it does": entry.summary,
            "known to defeat it": ", ".join(f"`{name}`" for name in defeated_by(entry.name)),
            "source": entry.info.source,
        }
        for entry in found
    ]
    return _table_and_words(rows, found)


def metrics(_measured: Measured | None = None) -> str:
    """Every metric with its definition."""
    rows = [
        {
            "metric": metric.title,
            "what it is": metric.definition,
            "unit": metric.unit,
            "better": metric.better,
            "source": metric.source,
        }
        for metric in METRICS.values()
    ]
    return table(rows)


def suite_files(_measured: Measured | None = None) -> str:
    """The suites that come with the benchmark."""

    def listed(names: Iterable[str]) -> str:
        return ", ".join(f"`{name}`" for name in names)

    found = [suites.read(suites.FOLDER / f"{name}.toml") for name in suites.names()]
    rows = [
        {
            "suite": f"`{suite.name}`",
            "what it is": suite.about,
            "attacks": listed(suite.attacks),
            "defenses": listed(suite.defenses),
        }
        for suite in found
    ]
    return table(rows)


SECTIONS: dict[str, Callable[[Measured], str]] = {
    "study": study.markdown,
    "leaderboard": lambda measured: leaderboard.markdown(studies(measured)),
    "leading": lambda measured: leaderboard.leading(studies(measured)),
    "agreement": agreement.markdown,
    "parity": parity.markdown,
    "duels": duels.markdown,
    "odds": lambda _: odds.markdown(),
    "attacks": attacks,
    "defenses": defenses,
    "metrics": metrics,
    "suites": suite_files,
}


def _built_in(registry: Registry[T, Info]) -> list[Registered[T, Info]]:
    """Without what other packages have registered here."""
    found = [registry[name] for name in registry.names()]
    return [e for e in found if e.factory.__module__.startswith(f"{registry.package}.")]


def _poisons(attack: str) -> str:
    """An attack's own rate of poison, where it hands over any; data sets may ask for another."""
    if ATTACKS[attack].info.needs == "model":
        return ""
    rate = ATTACKS.create(attack).poison_rate
    return f"{100 * rate:g}" if rate else ""


def _table_and_words(rows: list[dict[str, Any]], found: Sequence[Registered[Any, Any]]) -> str:
    words = [
        part
        for entry in found
        if (text := _prose(entry.factory))
        for part in (f"### {entry.name}", text)
    ]
    return "\n\n".join([table(rows), *words])


def _prose(factory: Callable[..., Any]) -> str:
    """A docstring as Markdown: its names in single quotes or double backticks become code."""
    text = inspect.cleandoc(factory.__doc__ or "")
    return re.sub(r"(?<!`)`(\w+)`(?!`)|``([^`]+)``", lambda m: f"`{m[1] or m[2]}`", text)
