"""The methods that TorchJD has the formula of, against what their papers say of the result.

Axes: T tasks, N entries of a gradient.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar, nnls
from torch import Tensor
from toy_losses import NUM_TASKS, TASKS, ToyLosses

from mtlsearch.balancing import build_balancer
from mtlsearch.balancing import torchjd as torchjd_file
from mtlsearch.balancing.torchjd import TorchJdWeighting
from mtlsearch.config import (
    AlignedMtlConfig,
    CaGradConfig,
    Config,
    FairGradConfig,
    GradDropConfig,
    ImtlGConfig,
    MgdaConfig,
    NashMtlConfig,
    PcGradConfig,
    UpGradConfig,
)
from mtlsearch.config.balancing import gradient as gradient_file
from mtlsearch.config.balancing.gradient import TorchJdConfig, missing_extra
from mtlsearch.errors import ConfigError

WEIGHING = [
    CaGradConfig(),
    CaGradConfig(c=0),
    MgdaConfig(),
    ImtlGConfig(),
    NashMtlConfig(),
    AlignedMtlConfig(),
    UpGradConfig(),
    FairGradConfig(),
    FairGradConfig(alpha=1.0),
]
EVERY = [*WEIGHING, GradDropConfig()]
PACKAGE = Path(__file__).parents[2]
CASES = [(seed, tasks) for seed in range(3) for tasks in (2, 3, 5)]
RANDOM = pytest.mark.parametrize(("seed", "num_tasks"), CASES)


def some_rows(seed: int, num_tasks: int) -> Tensor:
    """Gradients of different lengths, some in conflict."""
    draw = torch.Generator().manual_seed(seed)
    rows_TN = torch.randn(num_tasks, 12, generator=draw, dtype=torch.float64)
    rows_TN[1] -= 0.7 * rows_TN[0]
    return rows_TN * torch.logspace(-0.5, 0.5, num_tasks, dtype=torch.float64)[:, None]


def combined(config: Config, rows_TN: Tensor) -> tuple[Tensor, Tensor]:
    """The update and its weights."""
    balancer = build_balancer(config, TASKS, seed=0)  # type: ignore[arg-type]
    return balancer.combine(rows_TN)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("config", EVERY, ids=repr)
@pytest.mark.parametrize("length", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("num_tasks", [2, 5])
def test_equal_gradients_give_their_sum_however_long(config: Config, length: float, num_tasks: int) -> None:
    row_N = length * some_rows(0, 2)[0]
    update_N, _ = combined(config, row_N.expand(num_tasks, -1).contiguous())
    torch.testing.assert_close(update_N, num_tasks * row_N, rtol=1e-3, atol=0)


@pytest.mark.parametrize("config", EVERY, ids=repr)
def test_the_update_scales_with_the_gradients(config: Config) -> None:
    """The solvers' absolute tolerances must not be met by gradients that are small."""
    rows_TN = some_rows(1, 4)
    update_N, _ = combined(config, rows_TN)
    torch.testing.assert_close(combined(config, 1e-5 * rows_TN)[0], 1e-5 * update_N, rtol=1e-5, atol=0)


@pytest.mark.parametrize("config", WEIGHING, ids=repr)
def test_a_task_without_a_gradient_takes_no_part(config: Config) -> None:
    rows_TN = some_rows(2, 3)
    with_zeros_TN = torch.stack([rows_TN[0], torch.zeros(12, dtype=torch.float64), rows_TN[1], rows_TN[2]])
    update_N, weights_T = combined(config, with_zeros_TN)
    torch.testing.assert_close(update_N, combined(config, rows_TN)[0])
    assert weights_T[1] == 0


@RANDOM
def test_mgda_is_the_shortest_vector_in_the_hull(seed: int, num_tasks: int) -> None:
    rows_TN = some_rows(seed, num_tasks)
    update_N, weights_T = combined(MgdaConfig(), rows_TN)
    shortest = shortest_in_hull(rows_TN.numpy())
    assert weights_T.min() >= 0
    assert float(weights_T.sum()) == pytest.approx(num_tasks)
    assert float(update_N.norm()) == pytest.approx(num_tasks * np.linalg.norm(shortest), rel=1e-6)
    if num_tasks == 2:  # the closed form of the paper's eq. 4
        one_N, two_N = rows_TN
        gap_N = two_N - one_N
        gamma = float((gap_N @ two_N / (gap_N @ gap_N)).clamp(0, 1))
        torch.testing.assert_close(update_N, 2 * (gamma * one_N + (1 - gamma) * two_N), rtol=0, atol=1e-9)


def shortest_in_hull(rows: np.ndarray) -> np.ndarray:
    """By non-negative least squares, the weights' sum of 1 being a row of great weight."""
    weights, _ = nnls(np.vstack([rows.T, 1e4 * np.ones(len(rows))]), np.append(np.zeros(rows.shape[1]), 1e4))
    return weights / weights.sum() @ rows


@RANDOM
def test_imtl_g_projects_equally_on_all_gradients(seed: int, num_tasks: int) -> None:
    rows_TN = some_rows(seed, num_tasks)
    update_N, weights_T = combined(ImtlGConfig(), rows_TN)
    projections_T = rows_TN @ update_N / rows_TN.norm(dim=1)
    torch.testing.assert_close(projections_T, projections_T[:1].expand(num_tasks))
    assert float(weights_T.sum()) == pytest.approx(num_tasks)


@RANDOM
def test_nash_mtl_solves_its_condition(seed: int, num_tasks: int) -> None:
    """G·α = 1/α, of gradients whose mean square length is 1."""
    rows_TN = some_rows(seed, num_tasks)
    _, weights_T = combined(NashMtlConfig(), rows_TN)
    gramian_TT = rows_TN @ rows_TN.T
    gramian_TT = gramian_TT / gramian_TT.diagonal().mean()
    alpha_T = weights_T / num_tasks**0.5
    torch.testing.assert_close(gramian_TT @ alpha_T, 1 / alpha_T, rtol=1e-9, atol=0)


@RANDOM
@pytest.mark.parametrize("alpha", [0.5, 2.0, 4.0])
def test_fairgrad_solves_its_condition(seed: int, num_tasks: int, alpha: float) -> None:
    """G·w = w^(−1/α), likewise."""
    rows_TN = some_rows(seed, num_tasks)
    _, weights_T = combined(FairGradConfig(alpha=alpha), rows_TN)
    gramian_TT = rows_TN @ rows_TN.T
    gramian_TT = gramian_TT / gramian_TT.diagonal().mean()
    w_T = weights_T / num_tasks ** (alpha / (alpha + 1))
    torch.testing.assert_close(gramian_TT @ w_T, w_T ** (-1 / alpha), rtol=1e-9, atol=0)


@RANDOM
def test_cagrad_is_the_best_worst_case_near_the_mean(seed: int, num_tasks: int) -> None:
    """max_d min_k g_k·d with ‖d − ḡ‖ ≤ c·‖ḡ‖, found by a general solver on d itself."""
    rows_TN, c = some_rows(seed, num_tasks), 0.5
    update_N, _ = combined(CaGradConfig(c=c), rows_TN)
    d_N, mean_N = update_N * (1 + c) / num_tasks, rows_TN.mean(0)
    radius = c * float(mean_N.norm())
    assert float((d_N - mean_N).norm()) == pytest.approx(radius, rel=1e-4)
    rows, mean = rows_TN.numpy(), mean_N.numpy()
    found = minimize(  # (d, t): the largest t below all g_k·d
        lambda dt: -dt[-1],
        np.append(mean, (rows @ mean).min()),
        constraints=[
            {"type": "ineq", "fun": lambda dt: rows @ dt[:-1] - dt[-1]},
            {"type": "ineq", "fun": lambda dt: radius**2 - ((dt[:-1] - mean) ** 2).sum()},
        ],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert float((rows_TN @ d_N).min()) == pytest.approx(-found.fun, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 1e-3, 3e-5, 1e-5, 1e-7])
def test_cagrad_does_not_stand_still_when_one_task_is_nearly_learnt(ratio: float) -> None:
    """Of two gradients the worst case is on the segment between them: the paper's dual, minimised over one number."""
    one_N, two_N = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    two_N, c = ratio * two_N, 0.5
    mean_N = (one_N + two_N) / 2
    radius = c * np.linalg.norm(mean_N)

    def combination(odds: float) -> np.ndarray:
        share = 1 / (1 + np.exp(odds))
        return share * one_N + (1 - share) * two_N

    def dual(odds: float) -> float:
        return float(combination(odds) @ mean_N + radius * np.linalg.norm(combination(odds)))

    worst_N = combination(minimize_scalar(dual, bounds=(-40, 40), method="bounded", options={"xatol": 1e-9}).x)
    expected_N = mean_N + radius * worst_N / np.linalg.norm(worst_N)
    update_N, _ = combined(CaGradConfig(c=c), torch.from_numpy(np.stack([one_N, two_N])))
    torch.testing.assert_close(update_N, torch.from_numpy(expected_N * 2 / (1 + c)), rtol=1e-4, atol=1e-5)


@RANDOM
def test_cagrad_without_a_radius_is_the_plain_sum(seed: int, num_tasks: int) -> None:
    rows_TN = some_rows(seed, num_tasks)
    torch.testing.assert_close(combined(CaGradConfig(c=0), rows_TN)[0], rows_TN.sum(0))


@RANDOM
def test_upgrad_conflicts_with_no_task(seed: int, num_tasks: int) -> None:
    """The sum of the gradients' projections on the cone of what conflicts with none."""
    rows_TN = some_rows(seed, num_tasks)
    update_N, _ = combined(UpGradConfig(), rows_TN)
    assert float((rows_TN @ update_N / rows_TN.norm(dim=1)).min()) > -1e-9 * float(update_N.norm())
    rows = rows_TN.numpy()
    projections = [row + rows.T @ nnls(rows.T, -row)[0] for row in rows]
    torch.testing.assert_close(update_N, torch.from_numpy(np.sum(projections, 0)), rtol=0, atol=1e-6)


@RANDOM
def test_aligned_mtl_makes_all_singular_values_the_smallest(seed: int, num_tasks: int) -> None:
    rows_TN = some_rows(seed, num_tasks)
    update_N, _ = combined(AlignedMtlConfig(), rows_TN)
    u_TT, sigma_T, v_TN = torch.linalg.svd(rows_TN, full_matrices=False)
    torch.testing.assert_close(update_N, (sigma_T.min() * u_TT @ v_TN).sum(0))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (MgdaConfig(), [1.6, 0.8]),  # the foot of the origin on the line, (4/5, 2/5), twice
        (ImtlGConfig(), [4 / 3, 4 / 3]),  # equally along both: on the bisector
        (NashMtlConfig(), [5**0.5, 5**0.5]),  # w_k = √2·√(5/2)/‖g_k‖
        (AlignedMtlConfig(), [1.0, 1.0]),  # both as long as the shorter one
        (UpGradConfig(), [1.0, 2.0]),  # no conflict: the sum
    ],
    ids=repr,
)
def test_pinned_on_two_orthogonal_gradients(config: Config, expected: list[float]) -> None:
    """g_1 = (1, 0), g_2 = (0, 2)."""
    update_N, _ = combined(config, torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64))
    torch.testing.assert_close(update_N, torch.tensor(expected, dtype=torch.float64), rtol=1e-3, atol=0)


def test_graddrop_keeps_one_sign_at_each_position() -> None:
    rows_TN = some_rows(0, 3)
    balancer = build_balancer(GradDropConfig(), TASKS, seed=0)
    positive_N = rows_TN.clamp(min=0).sum(0)
    negative_N = rows_TN.clamp(max=0).sum(0)
    updates = torch.stack([balancer.combine(rows_TN)[0] for _ in range(2000)])  # type: ignore[attr-defined]
    is_positive = updates == positive_N
    assert bool((is_positive | (updates == negative_N)).all())
    purity_N = 0.5 * (1 + rows_TN.sum(0) / rows_TN.abs().sum(0))
    mixed_N = (positive_N > 0) & (negative_N < 0)
    share_N = is_positive.double().mean(0)
    torch.testing.assert_close(share_N[mixed_N], purity_N[mixed_N], rtol=0, atol=0.05)


def test_graddrop_is_the_papers_loop_under_its_own_generator() -> None:
    rows_TN = some_rows(1, 3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    update_N, _ = combined(GradDropConfig(), rows_TN)
    assert torch.equal(torch.get_rng_state(), before)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0)))
    u_N = torch.rand(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = []
    for position in range(12):
        column = rows_TN[:, position].tolist()
        purity = 0.5 * (1 + sum(column) / sum(map(abs, column)))
        keep = 1 if purity > float(u_N[position]) else -1
        expected.append(sum(value for value in column if value * keep > 0))
    torch.testing.assert_close(update_N, torch.tensor(expected, dtype=torch.float64))


def trained(config: Config, balancer, steps: range) -> Tensor:  # type: ignore[no-untyped-def]
    first = ToyLosses()
    for batch in steps:
        torch.manual_seed(batch)  # whatever the rest of the program draws
        losses = ToyLosses(batch=batch, absent=[1] if batch == 3 else [])
        losses.network = first.network
        for parameter in losses.parameters.values():
            parameter.grad = None
        balancer.backward(losses)
        with torch.no_grad():
            for parameter in losses.parameters.values():
                parameter -= 0.05 * parameter.grad
    return torch.cat([p.detach().flatten() for p in first.parameters.values()])


@pytest.mark.parametrize("config", EVERY, ids=repr)
def test_it_goes_on_from_its_state_as_if_never_stopped(config: Config) -> None:
    gone_on, taken_up = (build_balancer(config, TASKS, seed=seed) for seed in (1, 2))  # type: ignore[arg-type]
    trained(config, gone_on, range(5))
    taken_up.load_state_dict(gone_on.state_dict())
    assert torch.equal(trained(config, gone_on, range(5, 9)), trained(config, taken_up, range(5, 9)))


@pytest.mark.parametrize("config", WEIGHING, ids=repr)
def test_an_absent_task_weighs_nothing_and_is_no_row(config: Config) -> None:
    step = build_balancer(config, TASKS, seed=0).backward(ToyLosses(absent=[1]))  # type: ignore[arg-type]
    assert step.weights_K[1] == 0
    assert step.weights_K.isfinite().all()
    assert step.weights_K[[0, 2]].sum() > 0


@pytest.mark.parametrize("config", EVERY, ids=repr)
def test_gradients_that_are_no_numbers_or_all_zero_raise_nothing(config: Config) -> None:
    rows_TN = some_rows(0, 3)
    assert not combined(config, torch.zeros_like(rows_TN))[0].any()
    for bad in (torch.nan, torch.inf):
        spoilt_TN = rows_TN.clone()
        spoilt_TN[1] = bad
        update_N, _ = combined(config, spoilt_TN)
        assert isinstance(config, GradDropConfig) or not update_N.isfinite().any()


WRONG = {
    "unscaled": lambda config, num_rows: 1.0,
    "by one too many": lambda config, num_rows: num_rows + 1.0,
}


@pytest.mark.parametrize(("config", "mutant"), list(product(WEIGHING[:-1], WRONG)), ids=repr)
def test_a_wrong_scale_is_caught(config: Config, mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    monkeypatch.setattr(torchjd_file, "scale_of", WRONG[mutant])
    with pytest.raises(AssertionError):
        test_equal_gradients_give_their_sum_however_long(config, 1.0, 2)


@pytest.mark.parametrize(
    ("oracle", "wrong"),
    [
        (test_imtl_g_projects_equally_on_all_gradients, AlignedMtlConfig()),
        (test_aligned_mtl_makes_all_singular_values_the_smallest, ImtlGConfig()),
        (test_upgrad_conflicts_with_no_task, CaGradConfig(c=0)),
        (test_mgda_is_the_shortest_vector_in_the_hull, UpGradConfig()),
        (test_nash_mtl_solves_its_condition, FairGradConfig(alpha=2.0)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_another_method_in_its_place_is_caught(oracle, wrong: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test."""
    monkeypatch.setattr(sys.modules[__name__], "combined", lambda config, rows_TN: of(wrong, rows_TN))
    with pytest.raises(AssertionError):
        oracle(0, 3)


def of(config: Config, rows_TN: Tensor) -> tuple[Tensor, Tensor]:
    """`combined`, while that is another."""
    return TorchJdWeighting(config).combine(rows_TN)  # type: ignore[arg-type]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was found out of packages, before and after."""
    gradient_file._fault.cache_clear()
    yield
    gradient_file._fault.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_what_is_missing_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(gradient_file, "find_spec", lambda name: None if name == "torchjd" else find(name))
    assert missing_extra(PcGradConfig()) is None
    for config in EVERY:
        said = missing_extra(config)
        assert said is not None
        assert f"`{config.kind}` needs torchjd" in said  # type: ignore[attr-defined]
        assert "pip install 'mtlsearch[torchjd]'" in said
        with pytest.raises(ConfigError, match="pip install"):
            build_balancer(config, TASKS, seed=0)  # type: ignore[arg-type]


def test_where_the_extra_is_installed_nothing_is_missing() -> None:
    assert [missing_extra(config) for config in EVERY] == [None] * len(EVERY)


FINDER = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torchjd":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""
IMPORT = """
import builtins
original = builtins.__import__
def guarded(name, *args, **kwargs):
    if name.partition(".")[0] == "torchjd":
        raise ImportError(f"{name} is not for you")
    return original(name, *args, **kwargs)
builtins.__import__ = guarded
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("sitecustomize", FINDER, "which is not installed"),
        ("sitecustomize", "import sys; sys.modules['torchjd'] = None", "which is not installed"),
        ("sitecustomize", IMPORT, "torchjd cannot be imported (ImportError: torchjd"),
        ("torchjd", "raise RuntimeError('built for another torch')", "(RuntimeError: built for another torch)"),
    ],
    ids=["a finder that raises", "put aside", "no import", "broken"],
)
def test_however_it_is_absent_the_file_is_refused_with_the_command(
    name: str, code: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "a.yaml").write_text("data: {source: flights}\nspace:\n  model: mmoe\n  balancing: mgda\n")
    done = subprocess.run(
        [sys.executable, "-c", "from mtlsearch.cli import main; main()", "run", "--dry-run", "a.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("mtlsearch: a.yaml:3:"), done.stderr
    assert said in done.stderr
    assert "pip install 'mtlsearch[torchjd]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_of_the_extra_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, mtlsearch.config.balancing.gradient as g; g.missing_extra(g.PcGradConfig());"
        "assert 'torch' not in sys.modules; import mtlsearch.balancing; print('torchjd' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_method_of_the_extra_says_what_it_needs() -> None:
    assert len({type(config) for config in EVERY}) == len(TorchJdConfig.__subclasses__()) == 8
    assert len(TASKS) == NUM_TASKS
