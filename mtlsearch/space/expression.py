"""Arithmetic and comparisons over a configuration's fields, on Python's own syntax tree but never its `eval`.

What is not listed here does not exist: no calls but min, max and abs, no indexing, no attribute but a dotted
name, which is looked up as text. Lengths, exponents and numbers are bounded, so no expression takes long.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mtlsearch.space.domain import Scalar

MAX_LENGTH = 300
MAX_PARTS = 60
MAX_EXPONENT = 64

_WORDS = {"true": True, "false": False, "null": None}  # as YAML spells them
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUAL: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "min": min,
    "max": max,
    "abs": lambda numbers: abs(numbers[0]),
}


class UnevaluableError(Exception):
    """The values do not allow it: a word where a number must stand, a division by zero, an overflow."""


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > MAX_EXPONENT:
        raise UnevaluableError(f"an exponent must be between -{MAX_EXPONENT} and {MAX_EXPONENT}, found {exponent}")
    return math.pow(base, exponent)


_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}


def parse(text: str) -> ast.expr:
    """The syntax tree of an expression that holds only what `evaluate` knows.

    Raises:
        ValueError: it does not parse, is too long, or holds something else; the text says what.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"must have at most {MAX_LENGTH} characters, found {len(text)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of `1or 2`; its advice is for programs
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"does not parse: {getattr(error, 'msg', error)}") from None
    if sum(isinstance(part, ast.expr) for part in ast.walk(tree)) > MAX_PARTS:
        raise ValueError(f"must have at most {MAX_PARTS} parts; split it into several constraints")
    _check(tree)
    return tree


def _check(node: ast.expr) -> None:
    """Refuses everything that is not listed."""
    for child in _parts(node):
        _check(child)


def _parts(node: ast.expr) -> list[ast.expr]:
    """The operands of a node that is listed."""
    match node:
        case ast.Name() | ast.Attribute():
            dotted(node)
            return []
        case ast.Constant(value=bool() | int() | float() | str() | None as value) if value != math.inf:
            return []
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            return [operand]
        case ast.BinOp(left=left, right=right) if type(node.op) in _ARITHMETIC:
            return [left, right]
        case ast.BoolOp(values=values):
            return values
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(o) in _ORDER | _EQUAL for o in ops):
            return [left, *others]
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, *_] as args, keywords=[]):
            return args
        case ast.Call(func=ast.Name(id="abs"), args=[_] as args, keywords=[]):
            return args
    raise ValueError(
        f"`{ast.unparse(node)[:40]}` is not allowed; an expression has numbers, words, field names, "
        "+ - * / // % **, comparisons, and, or, not, min, max, abs"
    )


def dotted(node: ast.expr) -> str:
    """`model.num_experts` for a name or a chain of attributes of one."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
    raise ValueError(f"`{ast.unparse(node)[:40]}` is no field's name")


def names(node: ast.expr) -> Iterator[str]:
    """The field names in an expression, each as often as it stands there."""
    if isinstance(node, ast.Name | ast.Attribute):
        if dotted(node) not in _WORDS:
            yield dotted(node)
        return
    for part in _parts(node):
        yield from names(part)


def evaluate(node: ast.expr, values: Mapping[str, Scalar]) -> Any:
    """The value of an expression that `parse` has let through.

    Raises:
        UnevaluableError: the values do not allow it.
    """
    try:
        return _value(node, values)
    except (ArithmeticError, ValueError) as error:  # division by zero, overflow, a root of a negative number
        raise UnevaluableError(str(error)) from None


def _value(node: ast.expr, values: Mapping[str, Scalar]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            name = dotted(node)
            return _WORDS[name] if name in _WORDS else values[name]
        case ast.UnaryOp(op=ast.Not()):
            return not _truth(node.operand, values)
        case ast.UnaryOp(op=op):
            number = _number(node.operand, values)
            return -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            return _finite(_ARITHMETIC[type(op)](_number(left, values), _number(right, values)))
        case ast.BoolOp(op=ast.And()):
            return all(_truth(part, values) for part in node.values)
        case ast.BoolOp():
            return any(_truth(part, values) for part in node.values)
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name]([_number(arg, values) for arg in args])
        case ast.Compare():
            return _compare(node, values)
    raise AssertionError(f"parse let {node} through")


def _compare(node: ast.Compare, values: Mapping[str, Scalar]) -> bool:
    operands = [node.left, *node.comparators]
    for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
        if type(op) in _ORDER:
            holds = _ORDER[type(op)](_number(left, values), _number(right, values))
        else:
            holds = _EQUAL[type(op)](_value(left, values), _value(right, values))
        if not holds:
            return False
    return True


def _number(node: ast.expr, values: Mapping[str, Scalar]) -> Any:
    value = _value(node, values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnevaluableError(f"`{ast.unparse(node)[:40]}` must be a number, found {value!r}")
    return value


def _finite(number: float) -> float:
    if not math.isfinite(number):  # 1e200 * 1e200 is no error to Python
        raise UnevaluableError(f"a number is out of range: {number}")
    return number


def _truth(node: ast.expr, values: Mapping[str, Scalar]) -> bool:
    value = _value(node, values)
    if not isinstance(value, bool):
        raise UnevaluableError(f"`{ast.unparse(node)[:40]}` must be true or false, found {value!r}")
    return value
