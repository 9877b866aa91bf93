"""A temporary step on a layer that reads the data itself, without writing the stepped weight out.

Such a layer gives y = x Wᵀ + b; its gradients are ∇W = Dᵀ x and ∇b = Dᵀ 1 with D = ∂L/∂y. A step of length η on both
makes its output on data z (x again, or the rows on the other side of a split) z Wᵀ + b - η (z xᵀ + 1) D: for K tasks
one product z Wᵀ, one z xᵀ, and K of [Z, B] x [B, M]. Behind it, the tasks' gradients with respect to W are one product,
of z with the sum of theirs with respect to y. Written out, it is K gradients, K stepped weights, K products with them
and K gradients again, each [B, I] x [I, M].

Axes: B rows on which the step is taken, Z rows behind it, I inputs, M outputs of all layers that read the data side by
side, K tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Reading(NamedTuple):
    """What all tasks have in common of a layer on data z_ZI behind the step."""

    z_ZI: Tensor
    y_ZM: Tensor
    """z Wᵀ + b."""
    gram_ZB: Tensor
    """z xᵀ + 1, without the 1 where no bias is stepped."""


class Product(NamedTuple):
    """One use of a weight on data."""

    weight: str
    """Its name."""
    bias: str | None
    """Of the bias that is stepped too."""
    x_BI: Tensor
    weight_MI: Tensor
    bias_M: Tensor | None
    y_BM: Tensor
    """x Wᵀ + b."""
    edge: GradientEdge
    """Where D_BM, the gradient with respect to y_BM, is to be had."""

    @property
    def names(self) -> list[str]:
        """Of the parameters whose step is not written out."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def reading(self, z_ZI: Tensor) -> Reading:
        """The same layer on the data behind the step."""
        y_ZM = self.y_BM if z_ZI is self.x_BI else F.linear(z_ZI, self.weight_MI, self.bias_M)
        gram_ZB = z_ZI @ self.x_BI.t()
        return Reading(z_ZI, y_ZM, gram_ZB if self.bias is None else gram_ZB.add_(1))


class FindProducts(TorchFunctionMode):
    """Finds the weights that are used once, on data, where the step costs less when it is not written out.

    Args:
        weights: the candidates, weights and biases, by name.
        num_tasks: how many temporary steps there will be.
    """

    def __init__(self, weights: Mapping[str, Tensor], num_tasks: int) -> None:
        super().__init__()
        self._names = {id(weight): name for name, weight in weights.items()}
        self._num_tasks = num_tasks
        self._products: dict[str, Product] = {}
        self._other_use: set[str] = set()

    @property
    def products(self) -> dict[str, Product]:
        """By the weight's name."""
        return {n: p for n, p in self._products.items() if self._other_use.isdisjoint(p.names)}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._names or is_harmless(func):
            return func(*args, **kwargs)
        seen = {name for tensor in tensors_in(args, kwargs) if (name := named(tensor, self._names)) is not None}
        if func is F.linear and not kwargs and self._is_first_use(seen) and self._pays(*args):
            return self._product(*args)
        self._other_use |= seen
        return func(*args, **kwargs)

    def _is_first_use(self, seen: set[str]) -> bool:
        """Also of the bias, which no other layer may have."""
        return bool(seen) and seen.isdisjoint(n for product in self._products.values() for n in product.names)

    def _pays(self, x: Tensor, weight_MI: Tensor, bias_M: Tensor | None = None) -> bool:
        """Also false where autocast rounds, and where the input depends on parameters."""
        if named(weight_MI, self._names) is None or torch.is_autocast_enabled(x.device.type):
            return False
        if not is_data(x) or weight_MI.dim() != 2:
            return False
        rows, (outputs, inputs) = len(x), weight_MI.shape
        return rows * (inputs + self._num_tasks * outputs) < 2 * self._num_tasks * inputs * outputs

    def _product(self, x_BI: Tensor, weight_MI: Tensor, bias_M: Tensor | None = None) -> Tensor:
        y_BM = F.linear(x_BI, weight_MI, bias_M)
        given_BM = y_BM.clone()  # what follows may work in its place
        weight, bias = named(weight_MI, self._names), named(bias_M, self._names)
        assert weight is not None
        edge = get_gradient_edge(given_BM)
        self._products[weight] = Product(weight, bias, x_BI, weight_MI, bias_M, y_BM, edge)
        return given_BM


class Readings:
    """What the layers behind the products give on the data behind the step, computed once for all tasks.

    Args:
        is_constant: whether the gradient ends there; `gradients` then has it.
    """

    def __init__(self, products: Mapping[str, Product], *, is_constant: bool) -> None:
        self.products, self._is_constant = products, is_constant
        self._found: list[tuple[Product, Reading]] = []

    def of(self, product: Product, z_ZI: Tensor) -> Reading:
        """On some data."""
        for each, reading in self._found:
            if each is product and reading.z_ZI is z_ZI:
                return reading
        reading = product.reading(z_ZI)
        if self._is_constant:
            reading = reading._replace(y_ZM=reading.y_ZM.detach().requires_grad_())
        self._found.append((product, reading))
        return reading

    def gradients(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of weights and biases, from what backward passes left."""
        slopes: dict[str, Tensor] = {}
        for product, reading in self._found:
            if (slope_ZM := reading.y_ZM.grad) is not None:
                more = {product.weight: slope_ZM.t() @ reading.z_ZI}
                if product.bias is not None:
                    more[product.bias] = slope_ZM.sum(0)
                slopes |= {n: slopes[n] + slope if n in slopes else slope for n, slope in more.items()}
        return {name: slope.view_as(parameters[name]) for name, slope in slopes.items()}


class Stepped(TorchFunctionMode):
    """Inside, the weights of products and their biases are changed by one task's step, -η·Dᵀ x and -η·Dᵀ 1.

    Args:
        parameters: those at which the model is called, by name.
        d: D_BM by the weight's name.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], readings: Readings, d: Mapping[str, Tensor], lr: float
    ) -> None:
        super().__init__()
        self._readings, self._d, self._lr = readings, d, lr
        self._owners: dict[str, Product] = {}
        for product in (readings.products[name] for name in d):
            self._owners |= dict.fromkeys(product.names, product)
        self._names = {id(parameters[name]): name for name in self._owners}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._names or is_harmless(func):
            return func(*args, **kwargs)
        if func is F.linear and not kwargs and (product := self._product(*args)) is not None:
            reading = self._readings.of(product, args[0])
            return torch.addmm(reading.y_ZM, reading.gram_ZB, self._d[product.weight], alpha=-self._lr)
        return func(*map(self._written_out, args), **{key: self._written_out(value) for key, value in kwargs.items()})

    def _product(self, z: Tensor, weight: Tensor, bias: Tensor | None = None) -> Product | None:
        """The layer, where it is used as it was found."""
        product = self._owners.get(named(weight, self._names) or "")
        return product if product is not None and is_data(z) and named(bias, self._names) == product.bias else None

    def _written_out(self, value: Any) -> Any:
        """Of any other use the stepped weight."""
        if isinstance(value, list | tuple) and any(named(v, self._names) for v in value if isinstance(v, Tensor)):
            return [self._written_out(each) for each in value]
        if not isinstance(value, Tensor) or (name := named(value, self._names)) is None:
            return value
        product = self._owners[name]
        d_BM = self._d[product.weight]
        slope = d_BM.sum(0) if name == product.bias else d_BM.t() @ product.x_BI
        return value - self._lr * slope.view_as(value)


def is_data(x: Tensor) -> bool:
    """Whether it is a matrix that depends on no parameter."""
    return x.dim() == 2 and not x.requires_grad


def is_harmless(func: Callable[..., Any]) -> bool:
    """Whether it only looks at a tensor, or gives it in another shape."""
    return func is Tensor.flatten or getattr(func, "__name__", "") == "__get__"


def named(tensor: Any, names: Mapping[int, str]) -> str | None:
    """Which weight it is, or is a view of."""
    if not isinstance(tensor, Tensor):
        return None
    base = tensor if tensor._base is None else tensor._base
    return names.get(id(base))


def tensors_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Among arguments and in their lists."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (each for each in value if isinstance(each, Tensor))
