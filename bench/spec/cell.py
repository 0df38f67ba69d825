"""What is run: one data set, model, attack, defense and seed, with their parameters."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from attacks import ATTACKS
from bench.spec import defaults
from defenses import DEFENSES, Defense, InputDetector, ModelDetector, Repair, SampleDetector
from fixtures.errors import BenchError, PluginError

Kind = Literal["attack", "detection", "repair"]
Flavour = Literal["attack", "samples", "model", "inputs", "repair"]
"""What a cell is judged by: a kind, with the three sorts of detectors told apart."""
FLAVOURS: dict[type[Defense], Flavour] = {
    SampleDetector: "samples",
    ModelDetector: "model",
    InputDetector: "inputs",
    Repair: "repair",
}
Params = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Cell:
    """One square of the cross. ``defense="none"`` asks for the attack's own figures.

    ``attack_params``, ``defense_params``, ``model_params``: a mapping of arguments, all of them
    plain JSON values; what is not given stands at the plugin's default.
    """

    dataset: str
    model: str = "simplecnn"
    attack: str = "none"
    defense: str = "none"
    seed: int = 0
    attack_params: Mapping[str, Any] | Params = field(default=())
    defense_params: Mapping[str, Any] | Params = field(default=())
    model_params: Mapping[str, Any] | Params = field(default=())

    def __post_init__(self) -> None:
        for name in ("attack_params", "defense_params", "model_params"):
            pairs = dict(getattr(self, name))
            frozen = tuple((key, _frozen(value)) for key, value in sorted(pairs.items()))
            object.__setattr__(self, name, frozen)

    @property
    def id(self) -> str:
        """What people read and select by: ``mnist-simplecnn-pixel-fine_pruning-s0``.

        Parameters follow their plugin: ``mnist-simplecnn-pixel+poison_rate=0.1-s0``.
        """
        return f"{self.name}-s{self.seed}"

    @property
    def name(self) -> str:
        """The id without the seed: what the cells of all seeds are called."""
        parts = [self.dataset, self.model + _suffix(self.model_params)]
        parts.append(self.attack + _suffix(self.attack_params))
        if self.defense != "none":
            parts.append(self.defense + _suffix(self.defense_params))
        return "-".join(parts)

    @property
    def kind(self) -> Kind:
        """Which of the three crosses the cell belongs to. Raises UnknownName or PluginError."""
        return kind_of(self.defense)

    @property
    def uses_defaults(self) -> bool:
        """Whether model, attack and defense are all at their defaults: gates are for those."""
        return not (self.attack_params or self.defense_params or self.model_params)

    @property
    def undefended(self) -> Cell:
        """The same cell without its defense: the one that names the victim."""
        return dataclasses.replace(self, defense="none", defense_params=())

    def to_json(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "model": self.model,
            "attack": self.attack,
            "defense": self.defense,
            "seed": self.seed,
            "attack_params": dict(self.attack_params),
            "defense_params": dict(self.defense_params),
            "model_params": dict(self.model_params),
        }


def flavour_of(defense: str) -> Flavour:
    """What a defense is judged by, from its class; ``none`` is the attack's own figures.

    Raises UnknownName, or PluginError for what is no defense.
    """
    if defense == "none":
        return "attack"
    factory = DEFENSES[defense].factory
    for base, flavour in FLAVOURS.items():
        if isinstance(factory, type) and issubclass(factory, base):
            return flavour
    raise PluginError(
        f"defense {defense!r} is none of the four kinds: "
        + ", ".join(base.__name__ for base in FLAVOURS)
    )


def kind_of(defense: str) -> Kind:
    """The cross that a defense belongs to. Raises as `flavour_of`."""
    flavour = flavour_of(defense)
    return flavour if flavour in ("attack", "repair") else "detection"


def _frozen(value: Any) -> Any:
    """Lists as tuples, so that cells can be compared and hashed. BenchError for a mapping."""
    if isinstance(value, Mapping):
        raise BenchError(f"a parameter is a number, a text or a list, not {value!r}")
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _suffix(params: Mapping[str, Any] | Params) -> str:
    """``+name=value`` for each parameter; a hash where that would not do as a file's name."""
    text = "".join(f"+{name}={value}" for name, value in dict(params).items())
    if re.fullmatch(r"[\w+=.]{0,60}", text):
        return text
    return "+" + hashlib.sha256(json.dumps(dict(params)).encode()).hexdigest()[:8]


def cross(
    datasets: Sequence[str],
    models: Sequence[str],
    attacks: Sequence[str],
    defenses: Sequence[str],
    seeds: Sequence[int],
    poison_rates: Sequence[float] = (),
) -> list[Cell]:
    """Every cell of the cross, victims that share a training next to each other.

    ``attacks``, ``defenses``: names, with parameters where `with_parameters` finds some.
    ``poison_rates``: none leaves every attack at its own. A rate that is an attack's own stands for
    the attack as it is, so a sweep shares those victims and records with every other run.
    """
    return [
        Cell(dataset, model, attack, defense, seed, params, how)
        for dataset in datasets
        for model in models
        for seed in seeds
        for attack, given in map(with_parameters, _by_level(attacks))
        for params in _swept(dataset, attack, given, poison_rates)
        for defense, how in map(with_parameters, defenses)
    ]


def with_parameters(text: str) -> tuple[str, dict[str, Any]]:
    """``"pixel+mapping=all2all"`` -> its name and parameters, as they stand in a cell's id.

    A value is read as JSON, and as plain text where it is none. Raises ValueError for a part
    without ``=``.
    """
    name, *pairs = text.split("+")
    params = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"{pair!r} is not name=value")
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return name, params


def _swept(
    dataset: str, attack: str, given: dict[str, Any], rates: Sequence[float]
) -> list[dict[str, Any]]:
    """The attack's parameters at each rate; a swept rate takes the place of a given one."""
    own = defaults.poison_rate(dataset, attack) if rates else 0
    if own == 0:  # nothing to sweep: no rates, or the clean model
        return [given]
    rest = {name: value for name, value in given.items() if name != "poison_rate"}
    return [rest if rate == own else {**rest, "poison_rate": rate} for rate in rates]


def _by_level(attacks: Sequence[str]) -> list[str]:
    """From the plainest trigger to the stealthiest, as the tables show them."""
    return sorted(attacks, key=lambda text: (level_of(with_parameters(text)[0]), text))


def level_of(attack: str) -> int:
    """An attack's rung of stealth; unknown ones come last."""
    return ATTACKS[attack].info.level if attack in ATTACKS else 99
