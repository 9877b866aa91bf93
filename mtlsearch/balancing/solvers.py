"""Weights of gradients by their inner products, each the solution of a small convex problem to double precision.

All of them work on the gradients' cosines and put the lengths back in the end. Tasks' gradients differ in length by
orders of magnitude, as soon as one task is nearly learnt: what is small beside the longest would be lost in a
tolerance.

Axes: T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDING = 1e-7
"""Least eigenvalue of cosines where a solution would grow without bound as it falls to 0: rows of float32 say no more
of the angle between them."""

LONGEST = 2.0
"""Of a combination with equal projections, in lengths of the longest gradient. A mean has at most 1."""

MAX_STEPS = 100
"""Newton's; some ten are taken."""

ENOUGH = 1e-8
"""The last step's share of a weight. Steps square what is wrong, so that this one left 1e-16."""


def shortest_in_hull(gramian_TT: Array) -> Array:
    """The weights, of sum 1 and none negative, that make the shortest vector.

    min ‖Σ u_k g_k‖² + (Σ u_k − 1)² over u ≥ 0 has its solution on the same ray, and needs no constraint.
    """
    length_T, cosine_TT = lengths_and_cosines(gramian_TT)
    relative_T = length_T.min() / length_T
    u_T = _nonnegative(np.vstack([_root(cosine_TT), relative_T]), np.append(np.zeros(len(length_T)), 1.0))
    weights_T = u_T * relative_T
    return np.asarray(weights_T / weights_T.sum())


def without_conflict(gramian_TT: Array) -> Array:
    """The weights of the mean of the gradients, each projected on the cone of what conflicts with none.

    The projection of g_k is g_k + Σ x_j g_j, of the x ≥ 0 that make it shortest.
    """
    length_T, cosine_TT = lengths_and_cosines(gramian_TT)
    root_TT = _root(cosine_TT, ROUNDING)
    unit_TT = np.stack([_nonnegative(root_TT, -column_T) for column_T in root_TT.T]) + np.eye(len(length_T))
    return np.asarray(length_T @ unit_TT / length_T / len(length_T))


def equal_projections(gramian_TT: Array) -> Array:
    """The weights, of sum 1, whose vector has equal and positive projections on all gradients.

    Some may be negative, and what makes their sum 1 may then be a division by next to nothing, or by less. So the
    vector is at most LONGEST times as long as the longest gradient, and never turned round; the sum is less than 1
    where that is needed, which it never is for two tasks or for gradients of equal length.
    """
    length_T, cosine_TT = lengths_and_cosines(gramian_TT)
    root_TT = _root(cosine_TT, ROUNDING)
    unit_T = np.linalg.solve(root_TT.T @ root_TT, np.ones(len(length_T)))
    weights_T = unit_T / length_T
    return np.asarray(weights_T / max(weights_T.sum(), unit_T.sum() ** 0.5 / length_T.max() / LONGEST))


def fair(gramian_TT: Array, alpha: float) -> Array:
    """The weights with G·w = w^(−1/α).

    Of orthogonal gradients w_k = ‖g_k‖^(−2α/(α+1)). With y times that, and m_k = ‖g_k‖^((1−α)/(1+α)), the condition is
    Σ_j m_k m_j cos_kj y_j = m_k² y_k^(−1/α): the gradient of a convex function is 0. Newton's method finds where.
    """
    length_T, cosine_TT = lengths_and_cosines(gramian_TT)
    root_TT = _root(cosine_TT, ROUNDING)
    m_T = length_T ** ((1 - alpha) / (1 + alpha))
    h_TT = m_T[:, None] * (root_TT.T @ root_TT) * m_T

    def slope(y_T: Array) -> Array:
        return np.asarray(h_TT @ y_T - m_T**2 * y_T ** (-1 / alpha))

    y_T, change = np.ones(len(length_T)), 1.0
    for _ in range(MAX_STEPS):
        curvature_TT = h_TT + np.diag(m_T**2 / alpha * y_T ** (-1 / alpha - 1))
        y_T, change = _newton(slope, y_T, np.asarray(np.linalg.solve(curvature_TT, -slope(y_T))))
        if change < ENOUGH:
            break
    return np.asarray(y_T * length_T ** (-2 * alpha / (alpha + 1)))


def _newton(slope: Callable[[Array], Array], y_T: Array, step_T: Array) -> tuple[Array, float]:
    """A step, or a share of it, along which y stays positive and the convex function does not rise again as steeply
    as it falls; and by how much that changes y."""
    fall = step_T @ slope(y_T)
    share = min(1.0, 0.9 / max((-step_T / y_T).max(), 0.9))
    while fall < 0 and step_T @ slope(y_T + share * step_T) > -0.5 * fall:
        share /= 2
    return np.asarray(y_T + share * step_T), float(abs(share * step_T / y_T).max())


def lengths_and_cosines(gramian_TT: Array) -> tuple[Array, Array]:
    """Of gradients none of which is zero."""
    length_T = np.sqrt(gramian_TT.diagonal())
    return length_T, gramian_TT / length_T / length_T[:, None]


def _root(cosine_TT: Array, least: float = 0.0) -> Array:
    """R with RᵀR = C: the gradients' directions in as many dimensions as there are tasks."""
    value_T, vector_TT = np.linalg.eigh(cosine_TT)
    return np.asarray(np.sqrt(value_T.clip(least))[:, None] * vector_TT.T)


def _nonnegative(matrix: Any, target: Any) -> Array:
    """x ≥ 0 with the least ‖matrix·x − target‖."""
    from scipy.optimize import nnls  # takes longer to import than all of balancing; most methods do without

    return np.asarray(nnls(matrix, target, maxiter=30 * matrix.shape[1])[0])
