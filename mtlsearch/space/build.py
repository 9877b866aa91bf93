"""From what stands under `space:` to the tree.

Three rules decide what is searched. A component that is only named (`mmoe`) takes its fields' default ranges.
A component that is written out (`{kind: mmoe, ...}`) fixes what it leaves out at the field's default value.
A section that is left out is its default component, as if named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mtlsearch.config import Config, DataConfig, TaskWeights, TrialConfig
from mtlsearch.config.balancing import TaskWeight
from mtlsearch.config.data import task_names
from mtlsearch.space.family import Family, family
from mtlsearch.space.leaf import FORMS, read_items, read_leaf
from mtlsearch.space.mistakes import Spot
from mtlsearch.space.spelling import listed, shown, unknown
from mtlsearch.space.tree import Branches, Component, Fixed, Node

WEIGHTS = "{income: 2.0, married: {float: [0.01, 100.0], log: true}}"
"""What messages show."""

_DATA: TypeAdapter[DataConfig] = TypeAdapter(DataConfig)


def read_tree(spot: Spot) -> Component:
    """The whole space. Mistakes are noted in the spot; a tree with mistakes must not be used."""
    if not isinstance(spot.value, Mapping):
        spot.wrong(f"`space` must be a mapping (`key: value`) with at least `model`, found {shown(spot.value)}")
        return Component(TrialConfig, ())
    _no_unknown_keys(spot, list(TrialConfig.model_fields))
    return Component(TrialConfig, tuple((name, _section(spot, name)) for name in TrialConfig.model_fields))


def _section(spot: Spot, name: str) -> Node:
    if name in spot.value:
        return _node(spot.child(name), TrialConfig, name)
    kinds = family(TrialConfig, name)
    if kinds and kinds.default:
        return _by_name(spot, kinds.kinds[kinds.default])
    return _default(spot, TrialConfig, name)


def _node(spot: Spot, config: type[Config], field: str) -> Node:
    if config.model_fields[field].annotation is TaskWeights:
        return _weights(spot, field)
    kinds = family(config, field)
    return _slot(spot, kinds, field) if kinds else read_leaf(spot, config, field)


def _weights(spot: Spot, field: str) -> Node:
    """A weight or a range a task. Whether there are such tasks, only the data can say: `check_task_weights`."""
    if not isinstance(spot.value, Mapping) or not spot.value:
        spot.wrong(f"`{field}` must map tasks to weights or ranges, such as {WEIGHTS}, found {shown(spot.value)}")
        return Fixed(None)
    return Component(
        TaskWeights,
        tuple((task, read_leaf(spot.child(task), TaskWeight, "weight", f"{field}.{task}")) for task in spot.value),
    )


def _weights_by_range(spot: Spot, field: str, one: Mapping[str, Any]) -> Node:
    """The same range for every task of the data."""
    try:
        names = task_names(_DATA.validate_json(json.dumps(spot.mistakes.data)))
    except ValidationError:
        return Component(TaskWeights, ())  # the mistake in `data` is told where it stands
    if not names:
        spot.wrong(f"`{field}` are missing here: choose few tasks in `data.tasks`, or give weights such as {WEIGHTS}")
        return Fixed(None)
    return _weights(spot.instead({name: dict(one) for name in names}), field)


def _default(spot: Spot, config: type[Config], field: str) -> Node:
    info = config.model_fields[field]
    if info.is_required():
        kinds = family(config, field)
        hint = f"; give one of {listed(kinds.kinds)}, or {{choice: [...]}} of several" if kinds else ""
        if info.annotation is TaskWeights:
            hint = f"; give such as {WEIGHTS}, or name the method alone for a range a task"
        spot.wrong(f"`{field}` is missing here{hint}")
        return Fixed(None)
    return Fixed(info.get_default(call_default_factory=True))


def _slot(spot: Spot, kinds: Family, field: str) -> Node:
    """A field that holds a component: one, or a choice of several."""
    match spot.value:
        case {"choice": _}:
            return _choice(spot, kinds, field)
        case _:
            return _component(spot, kinds, field) or Fixed(None)


def _forms(kinds: Family) -> str:
    return f"one of {listed(kinds.kinds)}, a mapping with such a `kind`, or {{choice: [...]}} of these"


def _choice(spot: Spot, kinds: Family, field: str) -> Node:
    _no_unknown_keys(spot, ["choice"])
    options: list[tuple[str, Component]] = []
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    for item in read_items(spot.child("choice")):
        component = _component(item, kinds, field)
        written = json.dumps(item.value, sort_keys=True)
        if written in seen:
            item.wrong(f"{shown(item.value)} is listed twice in the choice for `{field}`")
        seen.add(written)
        if component is not None:
            counts[component.kind] += 1
            label = component.kind if counts[component.kind] == 1 else f"{component.kind}#{counts[component.kind]}"
            options.append((label, component))
    return Branches(tuple(options))


def _component(spot: Spot, kinds: Family, field: str) -> Component | None:
    match spot.value:
        case str(kind) if kind in kinds.kinds:
            return _by_name(spot, kinds.kinds[kind])
        case str(kind):
            spot.wrong(unknown(f"kind of `{field}`:", kind, kinds.kinds))
        case dict():
            return _by_mapping(spot, kinds, field)
        case _:
            spot.wrong(f"`{field}` must be {_forms(kinds)}, found {shown(spot.value)}")
    return None


def _by_name(spot: Spot, config: type[Config]) -> Component:
    """Only named: the default ranges of its fields, read as if they were written here."""
    names = [name for name in config.model_fields if name != "kind"]
    return Component(config, tuple((name, _by_range(spot, config, name)) for name in names))


def _by_range(spot: Spot, config: type[Config], name: str) -> Node:
    one = config.default_ranges().get(name)
    if one is None:
        return _default(spot, config, name)
    if config.model_fields[name].annotation is TaskWeights:
        return _weights_by_range(spot, name, one)
    return _node(spot.instead(dict(one)), config, name)


def _by_mapping(spot: Spot, kinds: Family, field: str) -> Component | None:
    kind = spot.value.get("kind", kinds.implied)
    if not isinstance(kind, str) or kind not in kinds.kinds:
        _wrong_kind(spot, kinds, field)
        return None
    config = kinds.kinds[kind]
    _no_unknown_keys(spot, ["kind", *(name for name in config.model_fields if name != "kind")])
    return Component(
        config,
        tuple(
            (
                name,
                _node(spot.child(name), config, name) if name in spot.value else _default(spot, config, name),
            )
            for name in config.model_fields
            if name != "kind"
        ),
    )


def _wrong_kind(spot: Spot, kinds: Family, field: str) -> None:
    if "kind" not in spot.value:
        form = next((form for form in FORMS if form in spot.value), None)
        numeric = f"; it is a component, so `{form}` does not apply" if form else ""
        spot.wrong(f"`{field}` needs `kind`, one of {listed(kinds.kinds)}{numeric}")
    elif isinstance(spot.value["kind"], str):
        spot.child("kind").wrong(unknown(f"kind of `{field}`:", spot.value["kind"], kinds.kinds))
    else:
        spot.child("kind").wrong(
            f"`kind` must be one word of {listed(kinds.kinds)}, found {shown(spot.value['kind'])}. "
            f"To search over kinds, write `{field}: {{choice: [...]}}` around them."
        )


def _no_unknown_keys(spot: Spot, allowed: list[str]) -> None:
    for key in spot.value:
        if key not in allowed:
            spot.wrong_key(key, unknown("key", key, allowed))
