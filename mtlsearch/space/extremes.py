"""The smallest and the largest configuration of a space, by estimate.

The estimate is the product of all whole numbers of a configuration (units, layers, experts, rows, steps):
what memory and time grow with. It need not be the true order: `check` wants two ends that differ, no ranking.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

from mtlsearch.config import TrialConfig
from mtlsearch.space.choosers import Random, Replay
from mtlsearch.space.domain import CategoryDomain, Domain, IntDomain, Scalar
from mtlsearch.space.flatten import flatten
from mtlsearch.space.tree import Component, combinations, suggest

_MOST_CORNERS = 512
_DRAWS = 2_000


def estimate(config: TrialConfig) -> tuple[int, int]:
    """How large a configuration is; of equal ones, that with more fields is the larger."""
    row = flatten(config)
    product = 1
    for value in row.values():
        product *= max(1, value) if isinstance(value, int) else 1
    return product, len(row)


def extreme(root: Component, allowed: Callable[[TrialConfig], bool], largest: bool) -> TrialConfig | None:
    """The allowed configuration of extreme estimate among the corners; None when nothing allowed is found.

    Where the constraints forbid every corner, the best of many random configurations stands in.
    """
    for candidates in (_corners(root, largest), _random(root)):
        configs = [config for config in candidates if allowed(config)]
        if configs:
            return max(configs, key=estimate) if largest else min(configs, key=estimate)
    return None


def _corners(root: Component, largest: bool) -> Iterator[TrialConfig]:
    """One configuration for every combination of branches, with every number at its end."""
    ends = combinations(root, "", lambda domain: (_end(domain, largest),))
    return (suggest(root, "", Replay(values)) for values in islice(ends, _MOST_CORNERS))


def _end(domain: Domain, largest: bool) -> Scalar:
    match domain:
        case IntDomain(low, high):
            return high if largest else low
        case CategoryDomain(options) if all(isinstance(o, int | float) and not isinstance(o, bool) for o in options):
            return max(options) if largest else min(options)  # type: ignore[type-var]
        case CategoryDomain(options):
            return options[0]
        case _:
            return domain.low  # real numbers do not make a model larger; a small learning rate is the safe end


def _random(root: Component) -> Iterator[TrialConfig]:
    chooser = Random(random.Random(0))
    return (suggest(root, "", chooser) for _ in range(_DRAWS))
