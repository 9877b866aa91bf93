"""All mistakes of one file, told together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mtlsearch.errors import ConfigError, Where
from mtlsearch.space.document import Document, Keys

_MOST = 20  # a file that is something else altogether would fill the screen


@dataclass
class Mistakes:
    """Collects what is wrong; `document` says where it stands."""

    document: Document | None = None
    found: dict[tuple[str, Where | None], None] = field(default_factory=dict)

    def add(self, message: str, where: Where | None) -> None:
        """Notes a mistake, once."""
        self.found[message, where] = None

    @property
    def data(self) -> Any:
        """The file's `data`, which says of which tasks the space is."""
        whole = self.document.value if self.document else None
        return whole.get("data") if isinstance(whole, Mapping) else None

    def raise_any(self) -> None:
        """Raises one ConfigError that tells all mistakes, in the order of the file."""
        if not self.found:
            return
        ordered = sorted(self.found, key=lambda mistake: _position(mistake[1]))
        (message, where), rest = ordered[0], ordered[1:_MOST]
        lines = [message, *(f"{place}: {text}" if place else text for text, place in rest)]
        if len(ordered) > _MOST:
            lines.append(f"… and {len(ordered) - _MOST} more")
        raise ConfigError("\n".join(lines), where)


def _position(where: Where | None) -> tuple[int, int]:
    return (where.line or 0, where.column or 0) if where else (0, 0)


@dataclass(frozen=True)
class Spot:
    """A value of a document that is being read, with the way to it."""

    value: Any
    keys: Keys
    mistakes: Mistakes

    @property
    def name(self) -> str:
        """What a message calls this value: `key`, or `key[2]` for an item of a list."""
        match self.keys:
            case [*_, str(key), int(position)]:
                return f"{key}[{position}]"
            case [*_, key]:
                return str(key)
        return "the file"

    @property
    def where(self) -> Where | None:
        """Where the value begins."""
        document = self.mistakes.document
        return document.value_place(self.keys) if document else None

    def child(self, key: str | int) -> Spot:
        """The value under a key or at a position."""
        return Spot(self.value[key], (*self.keys, key), self.mistakes)

    def instead(self, value: Any) -> Spot:
        """Another value, read as if it stood here: a default range has no line of its own."""
        return replace(self, value=value)

    def wrong(self, message: str) -> None:
        """Notes that this value is wrong."""
        self.mistakes.add(message, self.where)

    def wrong_key(self, key: str, message: str) -> None:
        """Notes that a key of this mapping is wrong."""
        document = self.mistakes.document
        self.mistakes.add(message, document.key_place((*self.keys, key)) if document else None)
