"""`{int: [low, high], step: n}` and `{float: [low, high], log: true}`: bounds, log and step in agreement."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from mtlsearch.space.domain import FloatDomain, IntDomain
from mtlsearch.space.mistakes import Spot
from mtlsearch.space.spelling import shown

_MOST_VALUES = 1_000_000


def read_range(spot: Spot, form: Literal["int", "float"]) -> IntDomain | FloatDomain | None:
    """The range that a mapping with the key `form` describes; None when it is wrong."""
    before = len(spot.mistakes.found)
    bounds, log, step = _bounds(spot.child(form), form), _log(spot), _step(spot, form)
    if bounds is None or len(spot.mistakes.found) > before:
        return None
    low, high = bounds
    if form == "int":
        domain: IntDomain | FloatDomain = IntDomain(int(low), int(high), log, int(step or 1))
    else:
        domain = FloatDomain(float(low), float(high), log, step)
    return domain if _log_fits(spot, form, domain) and _step_fits(spot, domain) else None


def _bounds(spot: Spot, form: str) -> tuple[float, float] | None:
    value = spot.value
    if not (isinstance(value, list) and len(value) == 2 and all(_is_number(item, form) for item in value)):
        what = "whole numbers" if form == "int" else "numbers"
        spot.wrong(f"`{form}` must be two {what} [low, high], found {shown(value)}{_for_real_numbers(value)}")
        return None
    low, high = value
    if low > high:
        spot.wrong(f"`{form}` must go from low to high, found {shown(value)}. Write [{high}, {low}].")
        return None
    return low, high


def _for_real_numbers(value: object) -> str:
    real = isinstance(value, list) and len(value) == 2 and all(_is_number(item, "float") for item in value)
    return ". For real numbers write float." if real else ""


def _is_number(value: object, form: str) -> bool:
    return isinstance(value, int if form == "int" else int | float) and not isinstance(value, bool)


def _log(spot: Spot) -> bool:
    log = spot.value.get("log", False)
    if not isinstance(log, bool):
        spot.child("log").wrong(f"`log` must be true or false, found {shown(log)}")
    return log is True


def _step(spot: Spot, form: str) -> float | None:
    if "step" not in spot.value:
        return None
    step = spot.value["step"]
    if not _is_number(step, form) or step <= 0:
        what = "a whole number" if form == "int" else "a number"
        spot.child("step").wrong(f"`step` must be {what} greater than 0, found {shown(step)}")
        return None
    return float(step)


def _log_fits(spot: Spot, form: str, domain: IntDomain | FloatDomain) -> bool:
    if not domain.log:
        return True
    if domain.step not in (None, 1) or (form == "float" and domain.step is not None):
        spot.child("step").wrong("`log` and `step` exclude each other: leave one out")
        return False
    if domain.low <= 0:
        start = "at 1 or above" if form == "int" else "above 0"
        spot.child(form).wrong(f"a log range must start {start}, found {shown(spot.value[form])}")
        return False
    return True


def _step_fits(spot: Spot, domain: IntDomain | FloatDomain) -> bool:
    if domain.step in (None, 1):
        return True
    low, high, step = (Decimal(str(number)) for number in (domain.low, domain.high, domain.step))
    if (high - low) / step > _MOST_VALUES:
        spot.child("step").wrong(f"`step` makes more than {_MOST_VALUES:,} values: leave it out, or make it larger")
        return False
    if (high - low) % step == 0:
        return True
    last = low + (high - low) // step * step
    spot.child("step").wrong(
        f"`step` must lead from {low} to {high}, but {step} leads to {last}. "
        f"Write [{low}, {last}] or [{low}, {last + step}]."
    )
    return False
