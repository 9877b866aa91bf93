"""`--set key=value`: changes to a document before it is validated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mtlsearch.errors import ConfigError, Where
from mtlsearch.space.document import Document, Keys, parse
from mtlsearch.space.spelling import shown

_PASSWORD = re.compile(r"(?<=:)[^:@]*(?=@)|(?<=password=)[^&]*")
"""In a URL; it is not to be printed."""


def apply(document: Document, override: str) -> None:
    """Sets `a.b.0.c=value` in the document; the value is YAML. Keys that are not there yet are added.

    Raises:
        ConfigError: it is no `key=value`, its value does not parse, or its way leads through no mapping.
    """
    printable = override.encode("utf-8", "backslashreplace").decode()  # a shell may pass bytes that are no text
    where = Where(Path(f"--set {_PASSWORD.sub('…', printable)}"))
    path, equals, text = override.partition("=")
    names = [name.strip() for name in path.split(".")]
    if not equals or not all(names):
        raise ConfigError("must be key=value with a dotted key, such as search.seed=3", where)
    new = parse(text, where, lines=False)
    holder: Any = document.value
    keys: Keys = ()
    for name in names[:-1]:
        holder, keys = _step(document, holder, keys, name, where)
    _put(document, holder, (*keys, _key(holder, keys, names[-1], where)), new)


def _step(document: Document, holder: Any, keys: Keys, name: str, where: Where) -> tuple[Any, Keys]:
    key = _key(holder, keys, name, where)
    keys = (*keys, key)
    if isinstance(holder, dict) and key not in holder:
        holder[key] = {}
        document.keys[keys] = document.values[keys] = where
    return holder[key], keys


def _key(holder: Any, keys: Keys, name: str, where: Where) -> str | int:
    """The key or position that `name` means in `holder`."""
    here = f"`{'.'.join(map(str, keys))}`" if keys else "the file"
    if isinstance(holder, dict):
        return name
    if not isinstance(holder, list):
        raise ConfigError(f"{here} is {shown(holder)}, which has no keys. Set it whole: {here[1:-1]}=…", where)
    if not (name.isascii() and name.isdigit() and int(name[:9]) < len(holder)):
        raise ConfigError(f"{here} is a list: give a position from 0 to {len(holder) - 1}, not `{name}`", where)
    return int(name)


def _put(document: Document, holder: Any, keys: Keys, new: Document) -> None:
    for places in (document.keys, document.values):
        for old in [k for k in places if k[: len(keys)] == keys]:
            del places[old]
        places[keys] = new.where
    holder[keys[-1]] = new.value
