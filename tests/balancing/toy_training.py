"""Training the toy network with changing batches: by a balancer, or by a paper's loop written plainly."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from toy_losses import NUM_TASKS, TASKS, Network, ToyLosses

from mtlsearch.balancing import Balancer, build_balancer
from mtlsearch.config import BalancingConfig

STEPS = 12
EPOCH = 3
"""Steps of an epoch."""
LR = 0.1
DECAY = 0.01
"""Of the network's own regulariser."""
Absent = Mapping[int, Sequence[int]]
"""Step → tasks without a label in its batch."""
NONE: Absent = {}
SOME: Absent = {0: [1], 1: [1], 4: [0, 2], 5: [0], 7: [0, 1, 2], 8: [2]}


class Trained(NamedTuple):
    """What came out."""

    weights: list[list[float]]
    """Of each step; 0 for absent tasks."""
    theta: Tensor
    """All parameters at the end, the balancer's own last."""


class Plain:
    """A paper's loop: a subclass says what the tasks weigh, in Python numbers."""

    own: tuple[nn.Parameter, ...] = ()

    def begin_epoch(self) -> None:
        """Before an epoch's first step."""

    def weigh(self, losses: ToyLosses, loss: list[float], present: list[int]) -> list[float]:
        """Weights of all tasks."""
        raise NotImplementedError

    def own_gradients(self, loss: list[float], present: list[int]) -> None:
        """Of `own`."""


def new_network() -> Network:
    return ToyLosses().network


def by_paper(plain: Plain, absent: Absent = NONE) -> Trained:
    """Each step on Σ w_k L_k and the regulariser."""
    network, record = new_network(), []
    sgd = torch.optim.SGD([*network.parameters(), *plain.own], LR)
    for step in range(STEPS):
        if step % EPOCH == 0:
            plain.begin_epoch()
        losses = batch(network, step, absent)
        found = losses()
        loss_K = found.loss_K
        present = [k for k in range(NUM_TASKS) if k not in absent.get(step, ())]
        weights = plain.weigh(losses, loss_K.tolist(), present)
        weights = [weight if k in present else 0.0 for k, weight in enumerate(weights)]
        sgd.zero_grad()
        total = found.penalties["decay"]
        for k in present:
            total = total + weights[k] * loss_K[k]
        total.backward()
        plain.own_gradients(loss_K.tolist(), present)
        sgd.step()
        record.append(weights)
    return Trained(record, flat([*network.parameters(), *plain.own]))


def by(balancer: Balancer, absent: Absent = NONE, cut: Callable[[], Balancer] | None = None) -> Trained:
    """The same with a balancer.

    Args:
        cut: makes another balancer that goes on from the first one's state in the middle of the second epoch.
    """
    network, record = new_network(), []
    sgd = torch.optim.SGD([*network.parameters(), *balancer.parameters], LR)
    for step in range(STEPS):
        if step % EPOCH == 0:
            balancer.begin_epoch(1 + step // EPOCH)
        if cut is not None and step == EPOCH + 1:
            balancer = taken_up(balancer, cut())
            balancer.begin_epoch(1 + step // EPOCH)
            sgd = torch.optim.SGD([*network.parameters(), *balancer.parameters], LR)
        sgd.zero_grad()
        losses = batch(network, step, absent)
        record.append(balancer.backward(losses).weights_K.tolist())
        assert all(p.grad is not None and p.grad.is_contiguous() for p in [*network.parameters(), *balancer.parameters])
        sgd.step()
    return Trained(record, flat([*network.parameters(), *balancer.parameters]))


def batch(network: Network, step: int, absent: Absent) -> ToyLosses:
    losses = ToyLosses(batch=step, absent=absent.get(step, ()), decay=DECAY)
    losses.network = network
    return losses


def flat(parameters: Sequence[nn.Parameter]) -> Tensor:
    return torch.cat([p.detach().double().flatten() for p in parameters])


def taken_up(balancer: Balancer, other: Balancer) -> Balancer:
    """The other one with the state of the first, through a file."""
    file = io.BytesIO()
    torch.save(balancer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same_state(other.state_dict(), balancer.state_dict())
    return other


def same_state(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        for name, value in one.items()
    )


def built(config: BalancingConfig, seed: int = 0) -> Balancer:
    return build_balancer(config, TASKS, seed)


def apart(one: Trained, other: Trained) -> float:
    """The largest difference, of any weight at any step and of any parameter at the end."""
    weights = (torch.tensor(one.weights) - torch.tensor(other.weights)).abs().max()
    return max(float(weights), float((one.theta - other.theta).abs().max()))


def resumes(config: BalancingConfig) -> bool:
    """Whether going on from a state in the middle of an epoch changes not a bit."""
    whole, cut = by(built(config), SOME), by(built(config), SOME, cut=lambda: built(config, seed=1))
    return whole.weights == cut.weights and torch.equal(whole.theta, cut.theta)
