"""The cosine between two tasks' weights that gives their labels a wanted correlation; exact, without sampling.

u and v are the two tasks' w·x: normal, of deviation c, with covariance p c². All expectations of
f(u) = u + Σ_i sin(α_i u + β_i) are then known in closed form: E sin(s) of a normal s is sin(mean) exp(−variance / 2), a
product of sines is half a difference of cosines, and E[u g(v)] = p c² E g'(v) (Stein's lemma).

Axes: S sines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 2000
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Sines:
    """f(u) = u + Σ_i sin(α_i u + β_i)."""

    alpha_S: tuple[float, ...]
    beta_S: tuple[float, ...]

    def plus_linear(self, u: NDArray[Any]) -> NDArray[Any]:
        """f, elementwise."""
        import numpy as np

        total = u.copy()
        for alpha, beta in zip(self.alpha_S, self.beta_S, strict=True):
            total += np.sin(alpha * u + beta)
        return total

    def covariance(self, p: float, scale: float) -> float:
        """Of f(u) and f(v); p = 1 is the variance of f(u)."""
        import numpy as np

        alpha_S, beta_S, variance = np.array(self.alpha_S), np.array(self.beta_S), scale**2
        damping_S = np.exp(-variance * alpha_S**2 / 2)
        linear_with_sines = p * variance * (alpha_S * np.cos(beta_S) * damping_S).sum()
        shared_SS = variance * p * np.outer(alpha_S, alpha_S)
        damping_SS = np.outer(damping_S, damping_S)
        cos_difference_SS = np.cos(beta_S[:, None] - beta_S) * np.exp(shared_SS)
        cos_sum_SS = np.cos(beta_S[:, None] + beta_S) * np.exp(-shared_SS)
        products = (damping_SS * (cos_difference_SS - cos_sum_SS)).sum() / 2
        mean_of_sines = (np.sin(beta_S) * damping_S).sum()
        return float(p * variance + 2 * linear_with_sines + products - mean_of_sines**2)


def angle_for(correlation: float, sines: Sines, scale: float, noise: float) -> float:
    """p such that the two labels, noise included, have this correlation.

    It is 0 at p = 0 and grows with p > 0. (The covariance is a power series in p with no negative coefficient.) To the
    left of 0 it may turn, so p is walked away from 0 up to the first crossing, which is then bisected.

    Raises:
        ConfigError: no p gives it; the message names the range that can be had.
    """
    total = sines.covariance(1, scale) + noise**2

    def at(p: float) -> float:
        return sines.covariance(p, scale) / total

    sign = 1 if correlation >= 0 else -1
    walk = [sign * step / STEPS for step in range(STEPS + 1)]
    reached = next((p for p in walk if sign * at(p) >= sign * correlation - TOLERANCE), None)
    if reached is None:
        lowest = min(at(-abs(p)) for p in walk)
        raise ConfigError(
            f"data.correlation must lie in {lowest:.3f}..{at(1):.3f} with these sines, scale, noise and seed, but is "
            f"{correlation:g}. Bring it nearer to 0, lower data.noise or data.num_sines, or take another data.seed."
        )
    below, above = reached - sign / STEPS if reached else 0.0, reached
    for _ in range(50):
        middle = (below + above) / 2
        below, above = (below, middle) if sign * at(middle) >= sign * correlation else (middle, above)
    return above
