"""What the options of the command line ask for, checked: a wrong one is one line."""

from __future__ import annotations

import math
import shlex
import warnings
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixtures.errors import BenchError

if TYPE_CHECKING:
    import pytest

    from bench.baseline import Accepted
    from bench.cell import Cell
    from bench.workspace import Workspace
    from fixtures.registry import Registry


HERE = Path(__file__).resolve().parent
"""The folder of the benchmark's own tests."""


@dataclass(frozen=True)
class Settings:
    """What the options ask for, checked.

    ``patterns``: the globs that chose the cells, by part of a cell. ``narrowed``: the command line
    asks for a part of the cross (``-k``, one file, one test), so what it leaves out is not missed.
    ``cell_timeout``: in seconds.
    """

    at: Workspace
    cells: list[Cell]
    patterns: dict[str, list[str]]
    results: Path
    seeds: list[int]
    rerun: str
    command: str
    narrowed: bool = False
    baseline: dict[str, Accepted] | None = None
    strict: bool = False
    cell_timeout: float | None = None
    notes: list[str] = field(default_factory=list)


def settings_of(config: pytest.Config) -> Settings:
    """Raises BenchError, one line that names the option, its value and what would be accepted."""
    from attacks import ATTACKS
    from bench import files
    from bench.cell import cross
    from bench.contracts import blamed
    from bench.workspace import Workspace
    from defenses import DEFENSES
    from fixtures.datasets import DATASETS, data_folder, load, resolve
    from fixtures.models import MODELS

    option = config.getoption
    seeds = parse_seeds(option("--seeds"))
    rates = parse_rates(option("--poison-rate"))
    models = _matching("--model", option("--model"), MODELS)
    attacks = _matching("--attack", option("--attack"), ATTACKS)
    defenses = _matching("--defense", option("--defense"), DEFENSES, "none")
    if any(fnmatchcase("none", pattern) for pattern in _globs(option("--defense"))):
        defenses.insert(0, "none")  # the attack's own figures
    named = option("--data-dir")
    with blamed("--data-dir" if named else "$TRIGGERBENCH_DATA"):
        data = data_folder(named)
    asked = option("--dataset")
    auto = asked == "auto"
    names = [resolve("auto", named)] if auto else _matching("--dataset", asked, DATASETS, "auto")
    if len(names) == 1 and not option("collectonly"):
        load(names[0], named)  # missing or damaged: told once, before anything runs
    at = Workspace(data=data if named else None, device=option("--device"))
    with blamed("--device"):
        device = at.torch_device()
    results = Path(option("--results-dir") or config.rootpath / "results" / "latest")
    results = (config.invocation_params.dir / results).resolve()
    with blamed("--results-dir"):
        files.make_folder(results / "records")
    with blamed("the cache ($TRIGGERBENCH_CACHE)"):
        files.make_folder(at.cache)
    found = "found" if names == ["mnist"] else f"MNIST is not in {data} and cannot be downloaded"
    why = f" (auto: {found})" if auto else ""
    notes = [
        f"triggerbench: data set {', '.join(names)}{why}; seeds {', '.join(map(str, seeds))}; "
        f"device {device}",
    ]
    cells = cross(names, models, attacks, _of_a_kind(defenses), seeds, rates)
    rerun = option("--rerun")
    if rerun not in ("none", "failed", "all") and not any(fnmatchcase(c.id, rerun) for c in cells):
        raise BenchError(f"--rerun: {rerun!r} is none of none, failed, all, and matches no cell")
    return Settings(
        at=at,
        cells=cells,
        patterns={
            "dataset": names,
            "model": _globs(option("--model")),
            "attack": _globs(option("--attack")),
            "defense": _globs(option("--defense")),
        },
        results=results,
        seeds=seeds,
        rerun=rerun,
        command=shlex.join(["pytest", *config.invocation_params.args]),
        narrowed=_narrowed(config),
        baseline=_baseline(config),
        strict=option("--strict-baseline"),
        cell_timeout=parse_timeout(option("--cell-timeout")),
        notes=notes,
    )


def paths_of(config: pytest.Config) -> list[Path]:
    """The files and folders that the command line names, a test's own name left off."""
    named = (argument.partition("::")[0] for argument in config.args)
    return [(config.invocation_params.dir / name).resolve() for name in named]


def benchmark_selected(config: pytest.Config) -> bool:
    """Whether the command line names the benchmark, a part of it or a folder around it."""
    return any(
        path == HERE or HERE in path.parents or path in HERE.parents for path in paths_of(config)
    )


def _narrowed(config: pytest.Config) -> bool:
    whole = any(path == HERE or path in HERE.parents for path in paths_of(config))
    options = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise")
    return not whole or any(config.getoption(option, None) for option in options)


def _baseline(config: pytest.Config) -> dict[str, Accepted] | None:
    named = config.getoption("--baseline")
    if named is None:
        if config.getoption("--strict-baseline"):
            raise BenchError("--strict-baseline: there is no --baseline to be strict about")
        return None
    from bench import baseline

    try:
        return baseline.load(config.invocation_params.dir / named)
    except BenchError as error:
        raise BenchError(f"--baseline: {error}") from error


def _of_a_kind(defenses: list[str]) -> list[str]:
    """Without those that are no defense at all, each named in a warning."""
    from bench.cell import kind_of, with_parameters

    kept = []
    for name in defenses:
        try:
            if name != "none":
                kind_of(with_parameters(name)[0])
            kept.append(name)
        except BenchError as error:
            warnings.warn(str(error), stacklevel=2)
    return kept


def _globs(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _matching(
    option: str, text: str, registry: Registry[Any], also: str | None = None
) -> list[str]:
    """The registered names that an option's globs select. BenchError for a glob without any.

    ``also``: a word that the option understands though no plugin carries it.
    """
    chosen = []
    for pattern in _globs(text):
        glob, plus, params = pattern, "", ""
        if registry.kind in ("attack", "defense"):
            glob, plus, params = pattern.partition("+")
        found = registry.names(glob)
        if not found and not (also == "none" and fnmatchcase(also, glob)):
            hint = f" (also: {also})" if also else ""
            raise BenchError(f"{option}: {registry.unknown(glob)}{hint}")
        if plus:
            if glob == also:
                raise BenchError(f"{option}: {also!r} takes no parameters, got {pattern!r}")
            for name in found:
                _build(option, registry, name + plus + params)
        chosen += [name + plus + params for name in found]
    return list(dict.fromkeys(chosen))


def _build(option: str, registry: Registry[Any], text: str) -> None:
    """Raises BenchError, one line, where a plugin does not take the parameters it was given."""
    from bench.cell import with_parameters

    try:
        name, params = with_parameters(text)
        registry.create(name, **params)
    except (BenchError, TypeError, ValueError) as error:
        raise BenchError(f"{option}: {text!r}: {error}") from error


def parse_seeds(text: str) -> list[int]:
    """``"3"`` -> [0, 1, 2]; ``"0,4,7"`` -> [0, 4, 7]. Raises BenchError for anything else."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and "," not in text and numbers[0] > 0:
        return list(range(numbers[0]))
    if len(numbers) > 1 and min(numbers) >= 0 and len(set(numbers)) == len(numbers):
        return numbers
    raise BenchError(f"--seeds: {text!r} is neither a count like 3 nor different seeds like 0,4,7")


def parse_rates(text: str | None) -> list[float]:
    """``"0.01,0.1"`` -> [0.01, 0.1]; None -> []. Raises BenchError for anything else."""
    if text is None:
        return []
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or len(set(rates)) < len(rates) or not all(0 < rate <= 1 for rate in rates):
        raise BenchError(
            f"--poison-rate: {text!r} is not a list of different shares like 0.01,0.03,0.1"
        )
    return rates


def parse_timeout(text: str | None) -> float | None:
    """``"90"`` -> 90.0 seconds; None -> no limit. Raises BenchError for anything else."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise BenchError(f"--cell-timeout: {text!r} is not a number of seconds like 90")
    return seconds
