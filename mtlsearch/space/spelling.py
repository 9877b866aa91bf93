"""How a message shows what was found and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 60  # a message is read in a terminal: more of a value than this does not help


def shown(value: object) -> str:
    """A value as a space file writes it, cut short."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return str(value).lower()
        case str():
            text = repr(value)
        case dict():
            text = "{" + ", ".join(f"{key}: {shown(item)}" for key, item in list(value.items())[:5]) + "}"
        case list() | tuple():
            text = "[" + ", ".join(shown(item) for item in list(value)[:8]) + "]"
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def listed(names: Iterable[object]) -> str:
    """`a, b, c`; for what is allowed."""
    return ", ".join(str(name) for name in names)


def nearest(name: object, allowed: Iterable[str]) -> str:
    """` Did you mean ...?` with the nearest allowed name, or nothing when none is near."""
    close = difflib.get_close_matches(str(name)[:_LONGEST], list(allowed), n=1, cutoff=0.55)
    return f" Did you mean `{close[0]}`?" if close else ""


def unknown(what: str, name: object, allowed: Iterable[str]) -> str:
    """The sentence for a name that is not among the allowed ones."""
    names = list(allowed)
    return f"unknown {what} {shown(name)}; allowed: {listed(names)}.{nearest(name, names)}"
