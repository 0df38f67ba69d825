"""What is run: one data set, model, recipe, attack, defense and seed, with their parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from attacks import ATTACKS
from bench.spec import budget, defaults
from bench.spec.budget import Budget
from bench.spec.parameters import PATH, Params, frozen, suffix, with_parameters
from defenses import (
    DEFENSES,
    Certified,
    Defense,
    InputDetector,
    ModelDetector,
    Repair,
    SampleDetector,
    Training,
)
from defenses.view import PARTS
from fixtures.errors import BenchError, PluginError

Kind = Literal["attack", "detection", "repair", "training"]
KINDS: tuple[Kind, ...] = ("detection", "repair", "training")
"""The kinds of cells with a defense, in the order of runs and reports."""
Flavour = Literal["attack", "samples", "model", "inputs", "repair", "training", "certified"]
"""What a cell is judged by: a kind, with the three sorts of detectors and proofs told apart."""
Split = Literal["test", "validation"]
"""What a cell is judged on: figures are of test images, choices are made on validation images."""
FLAVOURS: dict[type[Defense], Flavour] = {
    SampleDetector: "samples",
    ModelDetector: "model",
    InputDetector: "inputs",
    Repair: "repair",
    Certified: "certified",  # which is a Training too
    Training: "training",
}
KIND: dict[Flavour, Kind] = {
    "attack": "attack",
    "samples": "detection",
    "model": "detection",
    "inputs": "detection",
    "repair": "repair",
    "training": "training",
    "certified": "training",
}


@dataclass(frozen=True)
class Cell:
    """One square of the cross. ``defense="none"`` asks for the attack's own figures.

    ``..._params``: a mapping of arguments, all of them plain JSON values; what is not given stands
    at the plugin's default. ``recipe``: how the victim is trained; empty for what data set and
    model ask for, see `bench.spec.defaults.recipe`. ``clean``: images of each class that the
    defender gets; None for the data set's default, and in every cell without a defense.
    ``dataset_path``: where the data set lies, for one that takes a ``path``; no part of what the
    cell is: cells that differ in it alone are equal. ``split``: the images that it is judged on.
    Raises BenchError for a parameter that is no plain value, for parameters of no recipe, for what
    is no budget, and for a split that nothing is judged on.
    """

    dataset: str
    model: str = "simplecnn"
    attack: str = "none"
    defense: str = "none"
    seed: int = 0
    attack_params: Mapping[str, Any] | Params = field(default=())
    defense_params: Mapping[str, Any] | Params = field(default=())
    model_params: Mapping[str, Any] | Params = field(default=())
    dataset_params: Mapping[str, Any] | Params = field(default=())
    recipe: str = ""
    recipe_params: Mapping[str, Any] | Params = field(default=())
    clean: Budget | None = None
    dataset_path: str | None = field(default=None, compare=False)
    split: Split = "test"

    def __post_init__(self) -> None:
        about = dict(self.dataset_params)
        if PATH in about:
            object.__setattr__(self, "dataset_path", str(about.pop(PATH)))
        object.__setattr__(self, "dataset_params", frozen(about))
        for name in ("attack_params", "defense_params", "model_params", "recipe_params"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if self.recipe_params and not self.recipe:
            raise BenchError(f"parameters of no recipe: {dict(self.recipe_params)}; name one")
        budget.check(self.clean, self.defense)
        if self.split not in get_args(Split):
            raise BenchError(f"split {self.split!r}: a cell is judged on test or validation")

    @property
    def id(self) -> str:
        """What people read and select by: ``mnist-simplecnn-pixel-fine_pruning-s0``.

        Parameters follow their plugin, a recipe its model, and a clean budget its defense:
        ``folder+name=birds-vit+depth=6@sgd+epochs=3-pixel+poison_rate=0.1-anp-c10-s0``. What is
        judged on validation images says so before the seed.
        """
        return f"{self.name}-s{self.seed}"

    @property
    def name(self) -> str:
        """The id without the seed: what the cells of all seeds are called."""
        parts = [self.data_name, self.model_name, self.attack + suffix(self.attack_params)]
        if self.defense != "none":
            parts.append(self.defense + suffix(self.defense_params))
        if self.clean is not None:
            parts.append(budget.written(self.clean))
        if self.split != "test":
            parts.append(self.split)
        return "-".join(parts)

    @property
    def data_name(self) -> str:
        """The data set's part of the id."""
        return self.dataset + suffix(self.dataset_params)

    @property
    def model_name(self) -> str:
        """The model's part of the id, with the recipe that was asked for."""
        recipe = f"@{self.recipe}{suffix(self.recipe_params)}" if self.recipe else ""
        return self.model + suffix(self.model_params) + recipe

    @property
    def architecture(self) -> dict[str, Any]:
        """The model's parameters but for ``pretrained``: of networks of its kind made anew."""
        return {
            name: value for name, value in dict(self.model_params).items() if name != "pretrained"
        }

    @property
    def kind(self) -> Kind:
        """Which of the crosses the cell belongs to. Raises UnknownName or PluginError."""
        return kind_of(self.defense)

    @property
    def uses_defaults(self) -> bool:
        """Whether all plugins are at their defaults, whatever the clean budget: claims and gates
        are for those.
        """
        given = (self.dataset_params, self.model_params, self.attack_params, self.defense_params)
        return not (self.recipe or any(given))

    @property
    def is_plain(self) -> bool:
        """Whether attack, defense and clean budget are at their defaults: those are ranked."""
        return not (self.attack_params or self.defense_params) and self.clean is None

    @property
    def undefended(self) -> Cell:
        """The same cell without its defense, whatever it is judged on: it names the victim."""
        return dataclasses.replace(
            self, defense="none", defense_params=(), clean=None, split="test"
        )

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
            "dataset_params": dict(self.dataset_params),
            "recipe": self.recipe,
            "recipe_params": dict(self.recipe_params),
            "clean": self.clean,
            "split": self.split,
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
        f"defense {defense!r} is none of the kinds: "
        + ", ".join(base.__name__ for base in FLAVOURS)
    )


def kind_of(defense: str) -> Kind:
    """The cross that a defense belongs to. Raises as `flavour_of`."""
    return KIND[flavour_of(defense)]


def cross(
    datasets: Sequence[str],
    models: Sequence[str],
    attacks: Sequence[str],
    defenses: Sequence[str],
    seeds: Sequence[int],
    poison_rates: Sequence[float] = (),
    recipe: str = "",
    budgets: Sequence[Budget] = (),
) -> list[Cell]:
    """Every cell of the cross, victims that share a training next to each other.

    All but the seeds are names, with parameters where `with_parameters` finds some.
    ``poison_rates``: none leaves every attack at its own. A rate that is an attack's own stands for
    the attack as it is, so a sweep shares those victims and records with every other run.
    ``recipe``: empty for the default. ``budgets``: clean images of each class, none for the data
    set's default. One that is the default stands for the defense as it is, and so does any for a
    defense that sees no clean image.
    """
    how, fields = with_parameters(recipe)
    return [
        Cell(
            dataset=dataset,
            model=model,
            attack=attack,
            defense=defense,
            seed=seed,
            attack_params=params,
            defense_params=against,
            model_params=built,
            dataset_params=about,
            recipe=how,
            recipe_params=fields,
            clean=clean,
        )
        for dataset, about in map(with_parameters, datasets)
        for model, built in map(with_parameters, models)
        for seed in seeds
        for attack, given in map(with_parameters, _by_level(attacks))
        for params in _swept(dataset, attack, given, poison_rates)
        for defense, against in map(with_parameters, defenses)
        for clean in _budgets(dataset, defense, budgets)
    ]


def sees(defense: str) -> str:
    """Which parts of the view a defense is given, ``model, clean``; empty for one not loaded."""
    if defense not in DEFENSES:
        return ""
    seen = getattr(DEFENSES[defense].factory, "sees", ())
    return ", ".join(part for part in (*PARTS, "pretrained") if part in seen)


def _swept(
    dataset: str, attack: str, given: dict[str, Any], rates: Sequence[float]
) -> list[dict[str, Any]]:
    """The attack's parameters at each rate; a swept rate takes the place of a given one."""
    own = defaults.poison_rate(dataset, attack) if rates else 0
    if own == 0:  # nothing to sweep: no rates, or the clean model
        return [given]
    rest = {name: value for name, value in given.items() if name != "poison_rate"}
    return [rest if rate == own else {**rest, "poison_rate": rate} for rate in rates]


def _budgets(dataset: str, defense: str, budgets: Sequence[Budget]) -> list[Budget | None]:
    """What a defense is given in turn, the data set's default as None."""
    if not budgets or defense == "none" or "clean" not in sees(defense).split(", "):
        return [None]
    default = defaults.clean(dataset) or budget.ALL
    return [None if asked == default else asked for asked in budgets]


def _by_level(attacks: Sequence[str]) -> list[str]:
    """From the plainest trigger to the stealthiest, as the tables show them."""
    return sorted(attacks, key=lambda text: (level_of(with_parameters(text)[0]), text))


def level_of(attack: str) -> int:
    """An attack's rung of stealth; unknown ones come last."""
    return ATTACKS[attack].info.level if attack in ATTACKS else 99
