"""One field that holds plain values: fixed, or a domain that is checked against the field's own bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError

from mtlsearch.config import Config
from mtlsearch.space.domain import CategoryDomain, Domain, FloatDomain, IntDomain, Scalar
from mtlsearch.space.mistakes import Spot
from mtlsearch.space.numeric import read_range
from mtlsearch.space.spelling import listed, nearest, shown, unknown
from mtlsearch.space.translate import must_be
from mtlsearch.space.tree import Fixed, Leaf

FORMS: tuple[Literal["int", "float", "choice"], ...] = ("int", "float", "choice")
_OPTIONS = {"int": ("int", "log", "step"), "float": ("float", "log", "step"), "choice": ("choice",)}
_BROKEN = Fixed(None)
"""Stands for what could not be read: its mistake is noted, so this tree is never used."""


@dataclass(frozen=True)
class Asked:
    """What a value is held to."""

    config: type[Config]
    field: str
    name: str
    """What messages call it."""


def read_leaf(spot: Spot, config: type[Config], field: str, name: str | None = None) -> Fixed | Leaf:
    """A field of `config` as `spot` gives it; messages call it `name` where that is not the field's own."""
    asked = Asked(config, field, name or field)
    if not isinstance(spot.value, Mapping):
        return Fixed(_check(spot, asked))
    domain = _read_domain(spot, asked)
    if domain is None:
        return _BROKEN
    if domain.size == 1:
        return Fixed(_check(spot.instead(next(iter(domain))), asked))
    return Leaf(domain, spot.where)


def _check(spot: Spot, asked: Asked) -> Any:
    """The value of a field, held to the field's own type and bounds."""
    config, field = asked.config, asked.field
    try:
        # As JSON, since strict pydantic then takes a list for a tuple and still no text for a number.
        return getattr(config.model_validate_json(json.dumps({field: spot.value})), field)
    except ValidationError as error:
        own = [e for e in error.errors(include_url=False) if e["loc"][:1] == (field,) and e["type"] != "missing"]
        if own:
            hint = ". To search over values, write {choice: [...]}." if isinstance(spot.value, list) else ""
            if any(error["type"].startswith(("greater_than", "less_than")) for error in own):
                hint = _bounds(config, field)
            spot.wrong(must_be(asked.name, own, spot.value) + hint)
        return spot.value  # the other errors are of other fields: they are not given here


def _bounds(config: type[Config], field: str) -> str:
    """What to write instead of a number that is too small or too large."""
    words = ((Ge, "from", "ge"), (Gt, "above", "gt"), (Le, "to", "le"), (Lt, "below", "lt"))
    marks = {type(mark): mark for mark in config.model_fields[field].metadata}
    said = [f"{word} {getattr(marks[kind], name):g}" for kind, word, name in words if kind in marks]
    return f". Write a number {' '.join(said)}." if said else ""


def _read_domain(spot: Spot, asked: Asked) -> Domain | None:
    forms = [form for form in FORMS if form in spot.value]
    if len(forms) != 1:
        found = listed(spot.value) or "nothing"
        hint = next((near for key in spot.value if (near := nearest(key, FORMS))), "") if not forms else ""
        spot.wrong(f"`{asked.name}` must be a value or have exactly one of int, float, choice; found {found}.{hint}")
        return None
    form = forms[0]
    for key in spot.value:
        if key not in _OPTIONS[form]:
            spot.wrong_key(key, unknown("key", key, _OPTIONS[form]))
    if form == "choice":
        return _read_choice(spot.child("choice"), asked)
    domain = read_range(spot, form)
    if domain is None or not _all_allowed(spot.child(form), asked, _probes(domain)):
        return None
    return domain


def _read_choice(spot: Spot, asked: Asked) -> CategoryDomain | None:
    items = read_items(spot)
    options: list[Scalar] = []
    for item in items:
        if isinstance(item.value, Mapping | list):
            item.wrong(f"a choice for `{asked.name}` lists plain values, found {shown(item.value)}")
            continue
        value = _check(item, asked)
        if value in CategoryDomain(tuple(options)):
            item.wrong(f"{shown(item.value)} is listed twice in the choice for `{asked.name}`")
        options.append(value)
    return CategoryDomain(tuple(options)) if options else None


def read_items(spot: Spot) -> list[Spot]:
    """The items of a `choice`."""
    if not isinstance(spot.value, list) or not spot.value:
        spot.wrong(f"`choice` must be a list of at least one item, found {shown(spot.value)}")
        return []
    return [spot.child(i) for i in range(len(spot.value))]


def _probes(domain: IntDomain | FloatDomain) -> list[Scalar]:
    """Members to hold to the field's own bounds: all of a few whole numbers, else the ends."""
    if isinstance(domain, IntDomain) and domain.size <= 64:
        return list(domain)
    inside = domain.low + (domain.high - domain.low) * 0.382  # no whole number: shows a field that takes no others
    stepless = isinstance(domain, FloatDomain) and domain.step is None
    return [domain.low, domain.high, inside] if stepless else [domain.low, domain.high]


def _all_allowed(spot: Spot, asked: Asked, values: list[Scalar]) -> bool:
    before = len(spot.mistakes.found)
    for value in values:
        if len(spot.mistakes.found) == before:  # one message for one range
            _check(spot.instead(value), asked)
    return len(spot.mistakes.found) == before
