"""One Ray cluster for the whole test session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster(own_cache: None) -> Iterator[None]:
    """Two CPUs, a small object store, no dashboard; shut down at the end."""
    import ray

    from mtlsearch.orchestrate.machines import start_ray

    start_ray(None)
    yield
    ray.shutdown()
