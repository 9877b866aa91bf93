"""A space file as plain values, and where in the file each of them stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mtlsearch.errors import ConfigError, Where
from mtlsearch.space import yaml12
from mtlsearch.space.spelling import listed, nearest

Keys = tuple[str | int, ...]
"""The way to a value: keys of mappings, positions in lists."""

MAX_BYTES = 256 * 1024


@dataclass(frozen=True)
class Document:
    """Plain values with the place of each key and each value."""

    value: Any
    where: Where
    keys: dict[Keys, Where] = field(default_factory=dict)
    values: dict[Keys, Where] = field(default_factory=dict)

    def key_place(self, keys: Keys) -> Where:
        """Where a key stands, or the nearest key above it that does stand in the document."""
        return self._nearest(self.keys, keys)

    def value_place(self, keys: Keys) -> Where:
        """Where a value begins, or the nearest value around it that does stand in the document."""
        return self._nearest(self.values, keys)

    def _nearest(self, places: dict[Keys, Where], keys: Keys) -> Where:
        for length in range(len(keys), 0, -1):
            if keys[:length] in places:
                return places[keys[:length]]
        return self.where


def read_text(path: Path) -> str:
    """The text of a space file.

    Raises:
        ConfigError: there is no such file, or it is not readable UTF-8 text of a sensible size.
    """
    where = Where(path)
    try:
        if not path.is_file():
            raise ConfigError(_not_a_file(path), where)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"cannot read it: {error}", where) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"a space file has at most {MAX_BYTES // 1024} kB; this is something else", where)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"must be UTF-8 text, found byte 0x{data[error.start]:02x}", Where(path, line)) from None


def _not_a_file(path: Path) -> str:
    if path.is_dir():
        files = sorted(p.name for p in path.iterdir() if p.suffix in (".yaml", ".yml"))
        return "is a folder; name the space file in it" + (f": {listed(files[:8])}" if files else "")
    if path.exists():
        return "is not a regular file"
    names = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    return "no such file." + nearest(path.name, names)


def parse(text: str, where: Where, *, lines: bool = True) -> Document:
    """Reads YAML text that stands in the file `where`; without `lines`, all of it stands at that one place.

    Raises:
        ConfigError: it does not parse, repeats a key, carries a tag, or is unreasonably large.
    """
    builder = _Builder(where, lines)
    try:
        node = yaml12.compose(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(f"not YAML: character {error.character:#x} is not text", builder.at(line, None)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.problem, error.context) if part)
        place = builder.at(mark.line + 1, mark.column + 1) if mark else where
        raise ConfigError(f"not YAML: {problem}", place) from None
    value = None if node is None else builder.build(node, ())
    return Document(value, where, builder.keys, builder.values)


class _Builder:
    """From YAML nodes to plain values, remembering where each stands."""

    def __init__(self, where: Where, lines: bool) -> None:
        self.where = where
        self.lines = lines
        self.keys: dict[Keys, Where] = {}
        self.values: dict[Keys, Where] = {}
        self.num_nodes = 0

    def build(self, node: yaml.Node, keys: Keys) -> Any:
        place = self.place(node)
        self.values[keys] = place
        self.keys.setdefault(keys, place)  # an item of a list has no key of its own
        self.num_nodes += 1
        if self.num_nodes > yaml12.MAX_NODES or len(keys) > yaml12.MAX_DEPTH:
            raise ConfigError("grows too large, or contains itself, through its aliases (`*name`)", place)
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return self.mapping(node, keys)
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return [self.build(item, (*keys, i)) for i, item in enumerate(node.value)]
            case yaml.ScalarNode():
                return self.scalar(node)
            case _:
                raise ConfigError(yaml12.not_read(node.tag), place)

    def scalar(self, node: yaml.ScalarNode) -> str | int | float | bool | None:
        try:
            return yaml12.scalar(node)
        except ValueError as error:
            raise ConfigError(str(error), self.place(node)) from None

    def mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node)
            place = self.place(key_node)
            if key in result:
                first = self.keys[(*keys, key)]
                raise ConfigError(f"`{key}` is given twice; first at {first}. Keep one of them.", place)
            self.keys[(*keys, key)] = place
            result[key] = self.build(value_node, (*keys, key))
        return result

    def key(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode):
            key = self.scalar(node)
            if isinstance(key, str):
                return key
        raise ConfigError(f"a key must be a word, found {str(node.value)[:40]!r}", self.place(node))

    def place(self, node: yaml.Node) -> Where:
        return self.at(node.start_mark.line + 1, node.start_mark.column + 1)

    def at(self, line: int, column: int | None) -> Where:
        return Where(self.where.file, line, column) if self.lines else self.where
