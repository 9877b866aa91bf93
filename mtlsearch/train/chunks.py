"""A batch's forward pass in chunks of rows, of which only one has its activations in memory.

Its outputs are those of the whole batch, with a graph of one node a chunk, which keeps nothing: the node's backward
pass runs the chunk once more, and that backward pass is a node of the same kind, so second gradients need no more
memory than first ones. `torch.utils.checkpoint` was not enough: what a backward pass to some of the parameters does
not use of a recomputed chunk, it keeps as long as the graph lives, once for every task of a gradient method; and a
gradient that has a gradient holds all chunks at once.

Axes: B rows of the batch, P predictions, T steps of the longest sequence, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtlsearch.models import Inputs

Found = tuple[Tensor, Mapping[str, Tensor]]
"""outputs_PO, and penalties by name: scalars or penalty_P."""
Run = Callable[[Mapping[str, Tensor], Inputs], Found]
"""A model's forward pass at some parameters."""
Maybe = Tensor | None


def in_chunks(run: Run, parameters: Mapping[str, Tensor], inputs: Inputs, chunks: int, draws: Draws) -> Found:
    """What `run` gives of the whole batch, from so many chunks of its rows, or as many as it has rows.

    A scalar penalty is a function of the parameters or a mean over predictions: it is their mean over the chunks, each
    with the weight of its predictions.
    """
    pieces, before, names = split(inputs, chunks), draws.state(), list(parameters)
    outputs, shares, penalties = [], [], dict[str, list[Tensor]]()
    for piece in pieces:
        draws.begin(before)
        chunk = _Chunk(run, names, piece, draws)
        outputs_PO, *values = _Forward.apply(chunk, *parameters.values())  # type: ignore[no-untyped-call]
        outputs.append(outputs_PO)
        shares.append(len(outputs_PO))
        for name, value in zip(chunk.penalties, values, strict=True):
            penalties.setdefault(name, []).append(value)
    return torch.cat(outputs), {name: _joined(values, shares) for name, values in penalties.items()}


def split(inputs: Inputs, chunks: int) -> Iterator[Inputs]:
    """The rows in so many parts of about equal size; fewer where rows, or rows with a prediction, are fewer."""
    size = len(inputs.numeric_BF)
    count = min(chunks, size)
    if count < 2:
        yield inputs
        return
    bounds = [size * part // count for part in range(count + 1)]
    parts = [slice(*ends) for ends in pairwise(bounds)]
    if inputs.steps is None:
        yield from (Inputs(inputs.numeric_BF[rows], inputs.categorical_BC[rows]) for rows in parts)
        return
    steps, num_steps = inputs.steps, inputs.steps.numeric_BTS.shape[1]
    firsts = torch.tensor(bounds, device=steps.position_P.device) * num_steps
    cuts = torch.searchsorted(steps.position_P.contiguous(), firsts).tolist()
    for rows, (first, end) in zip(parts, pairwise(cuts), strict=True):
        if first == end:
            continue
        some = [tensor[rows] for tensor in (steps.numeric_BTS, steps.categorical_BTD, steps.length_B)]
        position_P = steps.position_P[first:end] - rows.start * num_steps
        yield Inputs(
            inputs.numeric_BF[rows],
            inputs.categorical_BC[rows],
            steps._replace(**dict(zip(steps._fields, [*some, position_P], strict=True))),
        )


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """cuDNN's recurrent networks and the fused attentions have no second gradient; torch's own kernels, which are
    slower, have one."""
    with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield


class Draws:
    """Generators from which a forward pass draws: those of the process, of which every row has draws of its own, and
    those that a part of the model has as `generator`, from which a pass draws once for all rows."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        own = (getattr(module, "generator", None) for module in model.modules())
        self._own = [each for each in own if isinstance(each, torch.Generator)]
        self._common = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]
            self._common.append(torch.cuda.default_generators[device.index or 0])

    def state(self) -> list[Tensor]:
        """Of all."""
        return [each.get_state() for each in (*self._own, *self._common)]

    def begin(self, before: Sequence[Tensor]) -> None:
        """The next chunk draws what is drawn once as the first chunk did."""
        for each, state in zip(self._own, before, strict=False):
            each.set_state(state)

    @contextmanager
    def again(self, before: Sequence[Tensor]) -> Iterator[None]:
        """Inside, they draw what they drew from that state on; behind it they go on as if nothing had been drawn."""
        now, everyone = self.state(), (*self._own, *self._common)
        for each, state in zip(everyone, before, strict=True):
            each.set_state(state)
        try:
            yield
        finally:
            for each, state in zip(everyone, now, strict=True):
                each.set_state(state)


class _Chunk:
    """One chunk's forward pass, which gives the same however often it is run."""

    def __init__(self, run: Run, names: Sequence[str], inputs: Inputs, draws: Draws) -> None:
        self._run, self._names, self._inputs, self._draws = run, names, inputs, draws
        self.penalties: tuple[str, ...] = ()
        device = inputs.numeric_BF.device.type
        self._autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        self._is_twice = not torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]

    def first(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        self._before = self._draws.state()
        outputs_PO, penalties = self._run(dict(zip(self._names, tensors, strict=True)), self._inputs)
        self.penalties = tuple(penalties)
        return outputs_PO, *penalties.values()

    def again(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """With the kernels and roundings of the first time."""
        kernels = twice_differentiable() if self._is_twice else nullcontext()
        with self._draws.again(self._before), torch.autocast(*self._autocast), kernels:
            outputs_PO, penalties = self._run(dict(zip(self._names, tensors, strict=True)), self._inputs)
        return outputs_PO, *penalties.values()

    def gradients(self, tensors: Sequence[Tensor], slopes: Sequence[Maybe], *, twice: bool) -> list[Maybe]:
        """Of Σ outputs · slopes with respect to the tensors; None where one does not matter."""
        outputs = self.again(tensors)
        wanted = [tensor for tensor in tensors if tensor.requires_grad]
        return _filled(tensors, gradients_of(list(zip(outputs, slopes, strict=True)), wanted, twice=twice))


class _Forward(torch.autograd.Function):
    """Tensors → outputs and penalties."""

    @staticmethod
    def forward(ctx: Any, chunk: _Chunk, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.chunk = chunk
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        # Others than those that came in: autocast would keep what it rounds of a parameter, here without a graph.
        return chunk.first([tensor.detach() for tensor in tensors])

    @staticmethod
    def backward(ctx: Any, *slopes: Maybe) -> tuple[Maybe, ...]:
        wanted = ctx.needs_input_grad[1:]
        found: tuple[Maybe, ...] = _Backward.apply(ctx.chunk, wanted, *ctx.saved_tensors, *slopes)  # type: ignore[no-untyped-call]
        return (None, *found)


class _Backward(torch.autograd.Function):
    """Tensors, and slopes of outputs and penalties → slopes of those tensors that are wanted."""

    @staticmethod
    def forward(ctx: Any, chunk: _Chunk, wanted: Sequence[bool], *given: Maybe) -> tuple[Maybe, ...]:
        ctx.chunk, ctx.wanted = chunk, wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*given)
        tensors, slopes = _leaves(given, wanted, twice=False)
        with torch.enable_grad():
            return tuple(chunk.gradients(tensors, slopes, twice=False))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *seconds: Maybe) -> tuple[Maybe, ...]:
        tensors, slopes = _leaves(ctx.saved_tensors, ctx.wanted, twice=True)
        with torch.enable_grad():
            first = ctx.chunk.gradients(tensors, slopes, twice=True)
            pairs = [(one, two) for one, two in zip(first, seconds, strict=True) if one is not None]
            leaves = [each for each in (*tensors, *slopes) if each is not None and each.requires_grad]
            found = gradients_of(pairs, leaves, twice=False)
        return None, None, *_filled([*tensors, *slopes], found)


class _Leaves(NamedTuple):
    tensors: list[Tensor]
    slopes: list[Maybe]


def _leaves(given: Sequence[Maybe], wanted: Sequence[bool], *, twice: bool) -> _Leaves:
    """The same numbers with a graph of their own."""
    count = len(wanted)
    tensors = [t.detach().requires_grad_(needs) for t, needs in zip(given, wanted, strict=False) if t is not None]
    slopes = [None if s is None else s.detach().requires_grad_(twice) for s in given[count:]]
    return _Leaves(tensors, slopes)


def gradients_of(pairs: Sequence[tuple[Tensor, Maybe]], places: Sequence[Tensor], *, twice: bool) -> Sequence[Maybe]:
    """Of Σ value · slope, over those that depend on anything."""
    counting = [(value, slope) for value, slope in pairs if slope is not None and value.requires_grad]
    if not counting or not places:
        return [None] * len(places)
    values, slopes = zip(*counting, strict=True)
    return torch.autograd.grad(values, places, slopes, create_graph=twice, allow_unused=True)


def _filled(places: Sequence[Maybe], found: Sequence[Maybe]) -> list[Maybe]:
    """What was found of those places that have a gradient, None at the others."""
    each = iter(found)
    return [next(each) if place is not None and place.requires_grad else None for place in places]


def _joined(values: Sequence[Tensor], shares: Sequence[int]) -> Tensor:
    if values[0].dim() > 0:
        return torch.cat(list(values))
    return torch.stack([value * (share / sum(shares)) for value, share in zip(values, shares, strict=True)]).sum()
