"""What is written like `space:` with fixed values, as assignments to the space's parameters."""

from __future__ import annotations

from collections.abc import Mapping

from mtlsearch.config import Config
from mtlsearch.space.domain import FloatDomain, Scalar
from mtlsearch.space.mistakes import Mistakes, Spot
from mtlsearch.space.spelling import listed, nearest, shown, unknown
from mtlsearch.space.tree import Branches, Component, Fixed, Leaf, Node, join

Assignment = dict[str, Scalar]


def assign(spot: Spot, node: Node, name: str) -> Assignment:
    """The parameters that `spot` fixes; what it leaves out is left open."""
    match node:
        case Fixed(Config() as config):
            return _assign_default(spot, config)
        case Fixed(value):
            if isinstance(spot.value, bool) != isinstance(value, bool) or spot.value != value:
                spot.wrong(f"`{spot.name}` is fixed at {shown(value)} in `space:`, found {shown(spot.value)}")
            return {}
        case Leaf(domain):
            if isinstance(spot.value, list | dict) or spot.value not in domain:
                spot.wrong(f"`{spot.name}` must be in {domain} as `space:` says, found {shown(spot.value)}")
                return {}
            return {name: float(spot.value) if isinstance(domain, FloatDomain) else spot.value}
        case Component():
            return _assign_component(spot, node, name)
        case Branches():
            return _assign_branch(spot, node, name)


def _assign_component(spot: Spot, node: Component, name: str) -> Assignment:
    fields = dict(node.fields)
    values = _written(spot)
    has_kind = "kind" in node.config.model_fields  # else it may be a task's name
    allowed = ["kind", *fields] if has_kind else list(fields)
    result: Assignment = {}
    for key in values.value:
        if key == "kind" and has_kind:
            if values.value[key] != node.kind:
                values.wrong_key(key, f"`{spot.name}` is {node.kind} in `space:`, found {shown(values.value[key])}")
        elif key in fields:
            result |= assign(values.child(key), fields[key], join(name, key))
        else:
            values.wrong_key(key, unknown("key", key, allowed))
    return result


def _assign_branch(spot: Spot, node: Branches, name: str) -> Assignment:
    kind = _written(spot).value.get("kind", node.options[0][1].kind if len(node.options) == 1 else None)
    same = [(label, component) for label, component in node.options if kind in (label, component.kind)]
    if not same:
        kinds = listed(node.labels.options)
        near = nearest(kind, [component.kind for _, component in node.options]) if isinstance(kind, str) else ""
        found = shown(spot.value) + (f".{near}" if near else "")
        spot.wrong(f"`{spot.name}` must name one `kind` of {kinds} as `space:` says, found {found}")
        return {}
    tries = [_try(spot, component, join(name, label)) for label, component in same]
    chosen = next((i for i, (_, mistakes) in enumerate(tries) if not mistakes.found), 0)
    result, mistakes = tries[chosen]
    spot.mistakes.found |= mistakes.found
    return ({name: same[chosen][0]} if len(node.options) > 1 else {}) | result


def _try(spot: Spot, component: Component, name: str) -> tuple[Assignment, Mistakes]:
    """Two branches may be of one kind: the first under which all values fit is meant."""
    mistakes = Mistakes(spot.mistakes.document)
    values = _written(spot).value
    own = {**values, "kind": component.kind} if "kind" in values else values
    return _assign_component(Spot(own, spot.keys, mistakes), component, name), mistakes


def _written(spot: Spot) -> Spot:
    """A bare name as the mapping that it is short for."""
    match spot.value:
        case str(kind):
            return spot.instead({"kind": kind})
        case Mapping():
            return spot
    spot.wrong(f"`{spot.name}` must be a mapping (`key: value`), found {shown(spot.value)}")
    return spot.instead({})


def _assign_default(spot: Spot, config: Config) -> Assignment:
    fields = tuple((name, Fixed(getattr(config, name))) for name in type(config).model_fields if name != "kind")
    return _assign_component(spot, Component(type(config), fields), "")
