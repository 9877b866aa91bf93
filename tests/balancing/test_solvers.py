"""The small convex problems behind weights of gradients, against what defines their solutions.

Axes: T tasks, N entries of a gradient.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import nnls

from mtlsearch.balancing import solvers
from mtlsearch.balancing.solvers import LONGEST, Array, equal_projections, fair, shortest_in_hull, without_conflict

N = 9


def rows_of(case: str, num_tasks: int, seed: int = 0) -> Array:
    """Gradients as they come: anyhow, all alike, two camps against each other, of lengths from 1e-4 to 1."""
    draw = np.random.default_rng(seed)
    noise_TN, one_N = draw.normal(size=(num_tasks, N)), draw.normal(size=N)
    sign_T1 = (-1.0) ** np.arange(num_tasks)[:, None]
    length_T1 = 10 ** draw.uniform(-4, 0, size=(num_tasks, 1))
    return {
        "random": noise_TN,
        "alike": one_N + 0.1 * noise_TN,
        "two camps": sign_T1 * one_N + 0.3 * noise_TN,
        "unequal": noise_TN * length_T1,
        "unequal camps": (sign_T1 * one_N + 0.3 * noise_TN) * length_T1,
        "equal": np.tile(one_N, (num_tasks, 1)),
        "parallel": np.tile(one_N, (num_tasks, 1)) * length_T1,
        "opposed": sign_T1 * one_N,
        "more than dimensions": np.pad(noise_TN[:, :2], ((0, 0), (0, N - 2))),
    }[case]


REGULAR = ["random", "alike", "two camps", "unequal", "unequal camps"]
SINGULAR = ["equal", "parallel", "opposed", "more than dimensions"]
ALL = pytest.mark.parametrize("case", [*REGULAR, *SINGULAR])
INDEPENDENT = pytest.mark.parametrize("case", REGULAR)
TASKS = pytest.mark.parametrize("num_tasks", [2, 3, 4, 7])


def gramian(rows_TN: Array) -> Array:
    return rows_TN @ rows_TN.T


def shortest_of_all_faces(rows_TN: Array) -> Array:
    """The foot of the origin on each face of the hull that contains it, and of these the nearest."""
    feet = []
    for size in range(1, len(rows_TN) + 1):
        for face in combinations(rows_TN, size):
            face_SN = np.stack(face)
            system = np.block([[face_SN @ face_SN.T, np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            weights_S = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0))[0][:size]
            if weights_S.min() > -1e-9 and weights_S.sum() == pytest.approx(1):
                feet.append(weights_S @ face_SN)
    return min(feet, key=np.linalg.norm)


@ALL
@TASKS
def test_the_shortest_vector_is_the_shortest_of_all_faces(case: str, num_tasks: int) -> None:
    rows_TN = rows_of(case, num_tasks)
    weights_T = shortest_in_hull(gramian(rows_TN))
    assert weights_T.min() >= 0
    assert weights_T.sum() == pytest.approx(1)
    shortest = np.linalg.norm(rows_TN, axis=1).min()
    np.testing.assert_allclose(weights_T @ rows_TN, shortest_of_all_faces(rows_TN), rtol=0, atol=1e-6 * shortest)


@ALL
@pytest.mark.parametrize("num_tasks", [2, 7, 12, 100])
def test_the_shortest_vector_opposes_no_task(case: str, num_tasks: int) -> None:
    """g_k·d ≥ ‖d‖² for all k: what makes it the shortest."""
    rows_TN = rows_of(case, num_tasks)
    d_N = shortest_in_hull(gramian(rows_TN)) @ rows_TN
    assert (rows_TN @ d_N).min() >= d_N @ d_N - 1e-6 * (rows_TN**2).sum(1).min()


@INDEPENDENT
@TASKS
def test_projected_gradients_conflict_with_none_however_unequal(case: str, num_tasks: int) -> None:
    rows_TN = rows_of(case, num_tasks)
    d_N = without_conflict(gramian(rows_TN)) @ rows_TN
    cosines_T = rows_TN @ d_N / np.linalg.norm(rows_TN, axis=1) / np.linalg.norm(d_N)
    assert cosines_T.min() > -1e-6
    directions_NT = (rows_TN / np.linalg.norm(rows_TN, axis=1, keepdims=True)).T
    projections = [row_N + directions_NT @ nnls(directions_NT, -row_N)[0] for row_N in rows_TN]
    np.testing.assert_allclose(d_N, np.mean(projections, 0), rtol=0, atol=1e-6 * np.linalg.norm(d_N))


@pytest.mark.parametrize("ratio", [1e3, 1e-3])
def test_a_short_gradient_is_not_opposed_by_a_long_one(ratio: float) -> None:
    rows_TN = np.array([[1.0, 0.0], [-0.6 * ratio, 0.8 * ratio]])
    d_N = without_conflict(gramian(rows_TN)) @ rows_TN
    assert (rows_TN @ d_N / np.linalg.norm(rows_TN, axis=1)).min() > -1e-6


@INDEPENDENT
@TASKS
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 4.0])
def test_the_condition_of_fairness_is_met_however_unequal(case: str, num_tasks: int, alpha: float) -> None:
    """G·w = w^(−1/α)."""
    gramian_TT = gramian(rows_of(case, num_tasks))
    w_T = fair(gramian_TT, alpha)
    np.testing.assert_allclose(gramian_TT @ w_T, w_T ** (-1 / alpha), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("ratio", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.9])
def test_fairness_at_every_ratio_of_lengths(ratio: float, cosine: float, alpha: float) -> None:
    gramian_TT = np.array([[1.0, cosine * ratio], [cosine * ratio, ratio**2]])
    w_T = fair(gramian_TT, alpha)
    np.testing.assert_allclose(gramian_TT @ w_T, w_T ** (-1 / alpha), rtol=1e-6)


@INDEPENDENT
@TASKS
def test_projections_are_equal_and_positive(case: str, num_tasks: int) -> None:
    rows_TN = rows_of(case, num_tasks)
    weights_T = equal_projections(gramian(rows_TN))
    projections_T = rows_TN @ (weights_T @ rows_TN) / np.linalg.norm(rows_TN, axis=1)
    assert projections_T.min() > 0
    np.testing.assert_allclose(projections_T, projections_T[0], rtol=1e-6)


@ALL
@pytest.mark.parametrize("seed", range(20))
def test_equal_projections_make_no_vector_of_any_length(case: str, seed: int) -> None:
    rows_TN = rows_of(case, 7, seed)
    weights_T = equal_projections(gramian(rows_TN))
    longest = np.linalg.norm(rows_TN, axis=1).max()
    assert np.linalg.norm(weights_T @ rows_TN) <= (LONGEST + 1e-6) * longest
    assert weights_T.sum() <= 1 + 1e-9


def test_equal_projections_are_not_turned_round_by_a_negative_sum() -> None:
    """Two long gradients and a short one between them, of which the first two must be subtracted."""
    rows_TN = np.array([[0.0, 10.0, 0.0], [0.0, 0.0, 10.0], [1.0, 3.0, 2.0]])
    length_T, cosine_TT = solvers.lengths_and_cosines(gramian(rows_TN))
    assert (np.linalg.solve(cosine_TT, np.ones(3)) / length_T).sum() < 0
    projections_T = rows_TN @ (equal_projections(gramian(rows_TN)) @ rows_TN) / length_T
    assert projections_T.min() > 0
    np.testing.assert_allclose(projections_T, projections_T[0])


@pytest.mark.parametrize("solver", [shortest_in_hull, without_conflict, equal_projections])
def test_where_nothing_helps_all_tasks_it_stands_still(solver) -> None:  # type: ignore[no-untyped-def]
    rows_TN = np.array([[1.0, 2.0], [-1.0, -2.0], [1.0, 2.0]])
    np.testing.assert_allclose(solver(gramian(rows_TN)) @ rows_TN, 0, atol=1e-5)


@pytest.mark.parametrize("case", SINGULAR)
@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 4.0, 10.0])
def test_where_no_weights_are_fair_they_stay_finite(case: str, alpha: float) -> None:
    for rows_TN in (rows_of(case, 5), rows_of(case, 5).astype(np.float32)):
        w_T = fair(gramian(rows_TN).astype(np.float64), alpha)
        assert np.isfinite(w_T).all()
        assert w_T.min() > 0


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_fairness_is_caught_when_newton_stops_early(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    monkeypatch.setattr(solvers, "MAX_STEPS", 2)
    with pytest.raises(AssertionError):
        test_the_condition_of_fairness_is_met_however_unequal("unequal camps", 4, alpha)
