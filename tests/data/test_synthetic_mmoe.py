"""The MMoE paper's made-up tasks: the formula, the correlation that was asked for, the same data every time."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mtlsearch.config import SyntheticMMoEConfig
from mtlsearch.data.columns import Columns
from mtlsearch.data.synthetic_mmoe import ROWS_A_PART, TASKS, Made, SyntheticMMoE
from mtlsearch.data.synthetic_mmoe_angle import Sines, angle_for
from mtlsearch.errors import ConfigError


def read(**options: object) -> Columns:
    return SyntheticMMoE(SyntheticMMoEConfig(**options)).read(TASKS)


def labels(columns: Columns) -> np.ndarray:
    return np.concatenate([np.stack([*part.labels.values()], axis=1) for part in columns.parts()])


def test_labels_are_the_papers_formula() -> None:
    config = SyntheticMMoEConfig(rows=10, num_inputs=7, num_sines=3, scale=0.5, noise=0, seed=4)
    made = Made(config)
    ((x_ND, y_NK),) = made.parts()
    for x_D, y_K in zip(x_ND.astype(float), y_NK, strict=True):
        for w_D, y in zip(made.weights.T, y_K, strict=True):
            u = sum(w * x for w, x in zip(w_D, x_D, strict=True))
            sines = zip(made.sines.alpha_S, made.sines.beta_S, strict=True)
            assert_allclose(y, u + sum(np.sin(alpha * u + beta) for alpha, beta in sines), atol=1e-5)


def test_weights_have_length_c_and_cosine_p() -> None:
    made = Made(SyntheticMMoEConfig(scale=0.3, correlation=0.5))
    assert_allclose(np.linalg.norm(made.weights, axis=0), [0.3, 0.3])
    assert_allclose(made.weights[:, 0] @ made.weights[:, 1] / 0.09, made.p)


@pytest.mark.parametrize("p", [-0.7, 0.0, 0.4, 1.0])
def test_the_covariance_is_that_of_a_large_sample(p: float) -> None:
    sines = Sines((0.5, -2.0, 1.2), (0.3, 1.0, -0.4))
    u_N, v_N = np.random.default_rng(0).normal(size=(2, 1_000_000))
    v_N = p * u_N + np.sqrt(1 - p**2) * v_N
    sampled = np.cov(sines.plus_linear(0.8 * u_N), sines.plus_linear(0.8 * v_N))[0, 1]
    assert_allclose(sines.covariance(p, 0.8), sampled, atol=0.02)


@pytest.mark.parametrize("wanted", [0.9, 0.5, 0.0, -0.1])
def test_labels_have_the_wanted_correlation(wanted: float) -> None:
    columns = read(correlation=wanted, num_inputs=5)
    measured = np.corrcoef(labels(columns).T)[0, 1]
    assert_allclose(measured, wanted, atol=0.01)
    assert columns.notes[0].startswith(f"Measured label correlation {measured:.3f} (wanted {wanted:g})")


def test_the_correlation_is_smaller_than_p() -> None:
    seeds = [Made(SyntheticMMoEConfig(rows=10, seed=seed)) for seed in range(20)]
    means = [
        np.mean([made.sines.covariance(p, 1) / (made.sines.covariance(1, 1) + 0.01) for made in seeds])
        for p in (0.5, 0.75, 0.9)
    ]
    assert_allclose(means, [0.37, 0.62, 0.82], atol=0.03)
    assert all(made.p > 0.5 for made in seeds)


def test_without_sines_and_noise_the_correlation_is_p() -> None:
    wanted = (-1, -0.3, 0, 0.8, 1)
    assert_allclose([angle_for(correlation, Sines((), ()), 1.0, 0.0) for correlation in wanted], wanted, atol=1e-6)


@pytest.mark.parametrize("wanted", [1.0, -0.9])
def test_a_correlation_out_of_reach_is_an_error(wanted: float) -> None:
    with pytest.raises(ConfigError, match=r"data.correlation must lie in -0\.\d+\.\.0\.99\d .* but is"):
        read(correlation=wanted, rows=10)


def test_seeds_make_data() -> None:
    once, again, other = (labels(read(rows=100, seed=seed)) for seed in (1, 1, -1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert_allclose(labels(read(rows=100, num_inputs=3))[0], PINNED, rtol=1e-5)


PINNED = [-0.66921, -3.556676]
"""Written down, so that a new numpy cannot make other data unnoticed."""


def test_parts_are_rows_of_one_table() -> None:
    columns = read(rows=ROWS_A_PART + 100, num_inputs=2)
    sizes = [len(part.labels["first"]) for part in columns.parts()]
    assert sizes == [ROWS_A_PART, 100]
    one, two = columns.parts()
    assert not np.array_equal(one.numeric["x0"][:100], two.numeric["x0"])
    assert {name: len(rows) for name, rows in columns.rows.items()} == {
        "train": 40_080,
        "validation": 5_010,
        "test": 5_010,
    }
    assert np.array_equal(np.concatenate([*columns.rows.values()]), np.arange(ROWS_A_PART + 100))


def test_inputs_are_standard_normal_and_stay_as_they_are() -> None:
    columns = read(rows=20_000, num_inputs=4)
    (part,) = columns.parts()
    assert list(part.numeric) == ["x0", "x1", "x2", "x3"]
    x_ND = np.stack([*part.numeric.values()], axis=1)
    assert_allclose(np.cov(x_ND.T), np.eye(4), atol=0.05)
    assert {encoding.kind for encoding in columns.encodings.values()} == {"none"}
    assert x_ND.dtype == part.labels["first"].dtype == np.float32


def test_one_task_alone_and_no_files() -> None:
    source = SyntheticMMoE(SyntheticMMoEConfig(rows=10))
    assert source.files() == ()
    (part,) = source.read(TASKS[1:]).parts()
    assert list(part.labels) == ["second"]
    assert np.array_equal(part.labels["second"], labels(read(rows=10))[:, 1])
