"""One field that holds plain values: fixed, or a domain that is checked against the field's own bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

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


def read_leaf(spot: Spot, config: type[Config], field: str) -> Fixed | Leaf:
    """A field of `config` as `spot` gives it."""
    if not isinstance(spot.value, Mapping):
        return Fixed(check(spot, config, field))
    domain = _read_domain(spot, config, field)
    if domain is None:
        return _BROKEN
    if domain.size == 1:
        return Fixed(check(spot.instead(next(iter(domain))), config, field))
    return Leaf(domain, spot.where)


def check(spot: Spot, config: type[Config], field: str) -> Any:
    """The value of a field, held to the field's own type and bounds."""
    try:
        # As JSON, since strict pydantic then takes a list for a tuple and still no text for a number.
        return getattr(config.model_validate_json(json.dumps({field: spot.value})), field)
    except ValidationError as error:
        own = [e for e in error.errors(include_url=False) if e["loc"][:1] == (field,) and e["type"] != "missing"]
        if own:
            hint = ". To search over values, write {choice: [...]}." if isinstance(spot.value, list) else ""
            spot.wrong(must_be(field, own, spot.value) + hint)
        return spot.value  # the other errors are of other fields: they are not given here


def _read_domain(spot: Spot, config: type[Config], field: str) -> Domain | None:
    forms = [form for form in FORMS if form in spot.value]
    if len(forms) != 1:
        found = listed(spot.value) or "nothing"
        hint = next((near for key in spot.value if (near := nearest(key, FORMS))), "") if not forms else ""
        spot.wrong(f"`{field}` must be a value or have exactly one of int, float, choice; found {found}.{hint}")
        return None
    form = forms[0]
    for key in spot.value:
        if key not in _OPTIONS[form]:
            spot.wrong_key(key, unknown("key", key, _OPTIONS[form]))
    if form == "choice":
        return _read_choice(spot.child("choice"), config, field)
    domain = read_range(spot, form)
    if domain is None or not _all_allowed(spot.child(form), config, field, _probes(domain)):
        return None
    return domain


def _read_choice(spot: Spot, config: type[Config], field: str) -> CategoryDomain | None:
    items = read_items(spot)
    options: list[Scalar] = []
    for item in items:
        if isinstance(item.value, Mapping | list):
            item.wrong(f"a choice for `{field}` lists plain values, found {shown(item.value)}")
            continue
        value = check(item, config, field)
        if value in CategoryDomain(tuple(options)):
            item.wrong(f"{shown(item.value)} is listed twice in the choice for `{field}`")
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


def _all_allowed(spot: Spot, config: type[Config], field: str, values: list[Scalar]) -> bool:
    before = len(spot.mistakes.found)
    for value in values:
        if len(spot.mistakes.found) == before:  # one message for one range
            check(spot.instead(value), config, field)
    return len(spot.mistakes.found) == before
