"""YAML as its version 1.2 reads plain words, without anything that runs code or grows without bound.

PyYAML reads version 1.1, where `1e-3` is a string and `off` is a boolean: a learning rate would be text, and
`amp: off` not the word that it looks like. So this loader resolves plain words anew. Tags are not read.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MAX_DEPTH = 40
MAX_NODES = 10_000
"""Also counts what aliases repeat, so that a few lines of anchors cannot become gigabytes."""
MAX_DIGITS = 18  # keeps every whole number inside 64 bits, in which the samplers count

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, tuple[str, list[str]]] = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - declared so by PyYAML

    def __init__(self, text: str) -> None:
        self.depth = 0
        super().__init__(text)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # PyYAML composes by recursion: without this, 1,000 opening brackets would be a RecursionError.
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, (_pattern, _first) in _WORDS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def compose(text: str) -> yaml.Node | None:
    """The one document in `text` as nodes with their lines; None when there is none.

    Raises:
        yaml.YAMLError: the text does not parse.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except (
        ValueError,
        OverflowError,
    ) as error:  # PyYAML lets chr() and int() fail on "\UFFFFFFFF" and the like
        raise yaml.MarkedYAMLError(None, None, f"a number or an escape is out of range ({error})") from error


def scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    """The value of a scalar node.

    Raises:
        ValueError: a tag that is not read, or a value that is out of range; the text says which.
    """
    text = str(node.value)
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int":
            return _whole(text)
        case "float":
            return _real(text)
        case "str":
            return _text(text)
        case _:
            raise ValueError(not_read(node.tag))


def not_read(tag: str) -> str:
    """What to say of a YAML tag."""
    return f"YAML tags are not read, found {tag.replace(_TAG, '!!')[:60]!r}. Write the value without a tag."


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"whole numbers have at most {MAX_DIGITS} characters, found {len(text)}")
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _real(text: str) -> float:
    value = float(text.replace(".inf", "inf").replace(".nan", "nan").replace(".Inf", "inf").replace(".NaN", "nan"))
    if not math.isfinite(value):
        raise ValueError(f"numbers must be finite, found {text[:30]}")
    return value


def _text(text: str) -> str:
    if any((ord(c) < 32 and c not in "\t\n") or c == "\x7f" or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError(f"text must not have control characters, found {ascii(text)[:60]}")
    return text
