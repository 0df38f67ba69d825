"""How often a 95 % interval holds the true mean: simulated, for several methods.

``python -m bench.calibration.coverage`` prints a table. A seed has a share of its own, drawn from a
beta distribution, and images are drawn with it. In some scenarios single seeds fail altogether, of
which three seeds can tell no method anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.analysis.statistics import estimate
from bench.report.markdown import table

Shares = NDArray[np.float64]
Method = Callable[[Shares, int], tuple[float, float]]


@dataclass(frozen=True)
class Scenario:
    """``mean``: the true one. ``vary``: intraclass correlation of a seed's images, 0 for seeds that
    differ by chance alone. ``fail``: the share of seeds in which it is a half, whatever the mean.
    """

    seeds: int
    images: int
    mean: float
    vary: float = 0.0
    fail: float = 0.0

    @property
    def truth(self) -> float:
        return (1 - self.fail) * self.mean + self.fail * 0.5

    def draw(self, generator: np.random.Generator) -> Shares:
        """What the seeds of one study would measure: float64 [seeds]."""
        shares = np.full(self.seeds, self.mean)
        if self.vary:
            scale = 1 / self.vary - 1
            shares = generator.beta(self.mean * scale, (1 - self.mean) * scale, self.seeds)
        shares = np.where(generator.random(self.seeds) < self.fail, 0.5, shares)
        return generator.binomial(self.images, shares) / self.images


VARYING = ((0.0, 0.0), (0.0003, 0.0), (0.003, 0.0), (0.03, 0.0), (0.0, 0.1))
SCENARIOS = [
    *(Scenario(seeds, 1, mean) for seeds in (3, 5, 10) for mean in (0.01, 0.5)),
    *(
        Scenario(seeds, images, mean, vary, fail)
        for images in (359, 10_000)
        for seeds in (3, 5, 10)
        for vary, fail in VARYING
        for mean in (0.001, 0.01, 0.1, 0.5)
    ),
]
"""The images of digits' and MNIST's test sets, and one: a verdict on a model."""


def effective_trials(shares: Shares, images: int) -> tuple[float, float]:
    """The interval in use."""
    found = estimate(shares.tolist(), images * len(shares)).interval
    assert found is not None
    return found


def student_t(shares: Shares, _images: int) -> tuple[float, float]:
    low, high = estimate(shares.tolist()).interval or (shares.mean(), shares.mean())
    return max(0.0, low), min(1.0, high)


def bootstrap(shares: Shares, _images: int) -> tuple[float, float]:
    """scipy's percentile bootstrap of the mean over seeds."""
    if np.ptp(shares) == 0:
        return float(shares[0]), float(shares[0])
    found = stats.bootstrap((shares,), np.mean, n_resamples=400, method="percentile", rng=0)
    return tuple(found.confidence_interval)


def nested(shares: Shares, images: int) -> tuple[float, float]:
    """Seeds resampled, and with each its share drawn anew from what its images leave open."""
    generator = np.random.default_rng(0)
    hits = generator.choice(shares, (400, len(shares))) * images
    means = generator.beta(hits + 0.5, images - hits + 0.5).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


METHODS: dict[str, Method] = {
    "effective trials": effective_trials,
    "Student's t, cut off": student_t,
    "bootstrap": bootstrap,
    "nested bootstrap": nested,
}


def coverage(method: str, scenario: Scenario, repeats: int = 1000) -> float:
    """The share of simulated studies whose interval holds the true mean."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(repeats):
        low, high = METHODS[method](scenario.draw(generator), scenario.images)
        held += low <= scenario.truth <= high
    return held / repeats


def main() -> None:
    rows = []
    for images in (1, 359, 10_000):
        for seeds in (3, 5, 10):
            some = [s for s in SCENARIOS if (s.images, s.seeds) == (images, seeds)]
            for vary, fail in dict.fromkeys((s.vary, s.fail) for s in some):
                like = [s for s in some if (s.vary, s.fail) == (vary, fail)]
                rows.append(
                    {
                        "images": images,
                        "seeds": seeds,
                        "correlation": vary,
                        "seeds that fail (%)": f"{100 * fail:g}",
                        **{name: _worst_and_mean(name, like) for name in METHODS},
                    }
                )
    print(table(rows))


def _worst_and_mean(method: str, some: list[Scenario]) -> str:
    found = [100 * coverage(method, scenario) for scenario in some]
    return f"{min(found):.0f} / {np.mean(found):.0f}"


if __name__ == "__main__":
    main()
