"""`constraints:` what a configuration must satisfy, such as `alpha * num_experts < num_experts`.

A name is a field's path or the end of one: `alpha` is `model.alpha` wherever that exists. Where the chosen
branch has no such field, the constraint says nothing and so holds. What cannot be evaluated (a division by
zero, a word where a number must stand) is violated; where that is plain from the text or the fields alone, it
is a mistake of the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mtlsearch.config import Config
from mtlsearch.errors import Where
from mtlsearch.space import expression
from mtlsearch.space.domain import Scalar
from mtlsearch.space.expression import UnevaluableError
from mtlsearch.space.flatten import flatten
from mtlsearch.space.mistakes import Spot
from mtlsearch.space.spelling import nearest, shown
from mtlsearch.space.tree import Branches, Component, Fixed, Leaf, Node, join


@dataclass(frozen=True)
class Constraint:
    """One line of `constraints:`."""

    text: str
    where: Where | None
    tree: ast.expr = field(repr=False, compare=False)

    def holds(self, row: Mapping[str, Scalar]) -> bool:
        """Whether a flattened configuration satisfies it."""
        values: dict[str, Scalar] = {}
        for name in expression.names(self.tree):
            paths = matches(name, row)
            if not paths:
                return True
            values[name] = row[paths[0]]
        try:
            return expression.evaluate(self.tree, values) is True
        except UnevaluableError:
            return False


def matches(name: str, paths: Mapping[str, Any]) -> list[str]:
    """The paths that a name may mean: itself, else all that end in it."""
    return [name] if name in paths else [path for path in paths if path.endswith(f".{name}")]


def read_constraint(spot: Spot, root: Component) -> Constraint | None:
    """A constraint of the space `root`; None when it is wrong."""
    if not isinstance(spot.value, str):
        spot.wrong(f"a constraint must be an expression in text, found {shown(spot.value)}")
        return None
    try:
        tree = expression.parse(spot.value)
        _check_truth(tree)
        _check_constants(tree)
        _check_names(tree, root)
    except (ValueError, UnevaluableError) as error:
        spot.wrong(f"constraint {shown(spot.value)}: {error}")
        return None
    return Constraint(spot.value, spot.where, tree)


def _check_truth(tree: ast.expr) -> None:
    if isinstance(tree, ast.BinOp | ast.Call) or (isinstance(tree, ast.UnaryOp) and not isinstance(tree.op, ast.Not)):
        raise ValueError("must be true or false, such as a comparison; this is a number")
    if not any(True for _ in expression.names(tree)):
        raise ValueError("names no parameter, so it says nothing")


def _check_constants(tree: ast.expr) -> None:
    """What holds no name has one value, and it must have one."""
    for part in ast.walk(tree):
        if isinstance(part, ast.expr) and not any(True for _ in expression.names(part)):
            expression.evaluate(part, {})


def _check_names(tree: ast.expr, root: Component) -> None:
    paths = all_paths(root, "")
    for name in expression.names(tree):
        if not matches(name, paths):
            ends = {path.removeprefix(path[:i]) for path in paths for i in _starts(path)}
            raise ValueError(f"no configuration has a field `{name}`.{nearest(name, sorted(ends))}")
        together = _together(root, "", matches(name, paths))
        if len(together) > 1:
            raise ValueError(f"`{name}` may be {' or '.join(together)}; write a longer path")
    _check_numbers(tree, paths)


def _starts(path: str) -> list[int]:
    return [0, *(i + 1 for i, letter in enumerate(path) if letter == ".")]


def _check_numbers(tree: ast.expr, paths: Mapping[str, bool]) -> None:
    """A field that is never a number cannot be computed with or ordered."""
    for part in ast.walk(tree):
        for operand in _numbers(part):
            if isinstance(operand, ast.Constant):
                expression.evaluate(ast.UnaryOp(ast.UAdd(), operand), {})
            for name in expression.names(operand) if isinstance(operand, ast.Name | ast.Attribute) else ():
                if not any(paths[path] for path in matches(name, paths)):
                    raise ValueError(f"`{name}` is never a number; compare it with == or !=")


def _numbers(node: ast.AST) -> list[ast.expr]:
    """The operands that must be numbers."""
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.Call(args=args):
            return args
        case ast.Compare(left=left, ops=ops, comparators=others):
            pairs = zip(ops, [left, *others], others, strict=False)
            return [side for op, a, b in pairs if not isinstance(op, ast.Eq | ast.NotEq) for side in (a, b)]
    return []


def all_paths(node: Node, name: str) -> dict[str, bool]:
    """Every field of every branch, without labels → whether it may be a number."""
    paths: dict[str, bool] = {}
    for path, number in _paths(node, name):
        paths[path] = paths.get(path, False) or number
    return paths


def _paths(node: Node, name: str) -> Iterator[tuple[str, bool]]:
    match node:
        case Fixed(Config() as config):
            yield from ((join(name, path), _is_number(value)) for path, value in flatten(config).items())
        case Fixed(value):
            yield name, _is_number(value)
        case Leaf(domain):
            options = getattr(domain, "options", (0,))
            yield name, any(_is_number(option) for option in options)
        case Component(config_class, fields):
            if "kind" in config_class.model_fields:
                yield join(name, "kind"), False
            for child_name, child in fields:
                yield from _paths(child, join(name, child_name))
        case Branches(options):
            for _, component in options:
                yield from _paths(component, name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _together(node: Node, name: str, paths: list[str]) -> list[str]:
    """The most of `paths` that one configuration can have at once."""
    match node:
        case Component(_, fields):
            own = [path for path in paths if path == join(name, "kind")]
            inner = [_together(child, join(name, field), paths) for field, child in fields]
            return own + [path for found in inner for path in found]
        case Branches(options):
            return max((_together(component, name, paths) for _, component in options), key=len, default=[])
        case _:
            here = all_paths(node, name)
            return [path for path in paths if path in here]
