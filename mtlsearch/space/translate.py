"""pydantic's errors in the words of a space file, at the place that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mtlsearch.config import Config, TrialConfig
from mtlsearch.space.document import Keys
from mtlsearch.space.family import members
from mtlsearch.space.mistakes import Spot
from mtlsearch.space.spelling import listed, shown, unknown

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "none_required": "null",
    "greater_than_equal": "at least {ge}",
    "greater_than": "greater than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "finite_number": "finite",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "literal_error": "{expected}",
    "model_type": "a mapping (`key: value`)",
    "model_attributes_type": "a mapping (`key: value`)",
    "dict_type": "a mapping (`key: value`)",
    "mapping_type": "a mapping (`key: value`)",
}


def expected(error: ErrorDetails) -> str:
    """What must hold, as the end of the sentence `x` must be …"""
    if error["type"] in _EXPECTED:
        return _EXPECTED[error["type"]].format(**error.get("ctx", {}))
    return error["msg"][:1].lower() + error["msg"][1:]


def must_be(name: str, errors: list[ErrorDetails], value: object) -> str:
    """One sentence for a value; several errors are the alternatives of a field of several types."""
    for error in errors:
        if error["type"] in ("value_error", "assertion_error"):
            return f"`{name}`: {error.get('ctx', {}).get('error', error['msg'])}"
    phrases = dict.fromkeys(expected(error) for error in errors)
    return f"`{name}` must be {' or '.join(phrases)}, found {shown(value)}"


def report(error: ValidationError, config: type[Config], spot: Spot) -> None:
    """Notes every error of validating `spot` as a `config`."""
    plain: dict[Keys, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        keys = document_keys(detail["loc"], spot.value)
        match detail["type"]:
            case "extra_forbidden":
                walk(spot, keys[:-1]).wrong_key(str(keys[-1]), _unknown(config, spot, keys))
            case "missing":
                walk(spot, keys).wrong(f"`{detail['loc'][-1]}` is missing here: it must be given")
            case "union_tag_invalid" | "union_tag_not_found":
                _wrong_tag(walk(spot, keys), detail, _described(config, spot, keys))
            case _:
                plain.setdefault(keys, []).append(detail)
    for keys, details in plain.items():
        if any(keys == other[: len(keys)] and keys != other for other in plain):
            continue  # pydantic also calls a list too short whose items are wrong
        at = walk(spot, keys)
        is_said = any(detail["type"] == "value_error" for detail in details)  # by the field itself
        hint = "" if is_said else _hint(at.value, _described(config, spot, keys))
        at.wrong(must_be(at.name, details, at.value) + hint)


def _unknown(config: type[Config], spot: Spot, keys: Keys) -> str:
    key = keys[-1]
    if keys == (key,) and key in TrialConfig.model_fields:
        return f"`{key}` belongs under `space`: write it there, as `space: {{{key}: …}}`"
    return unknown("key", key, _fields(_described(config, spot, keys[:-1])))


def _hint(value: object, described: list[type[Config]]) -> str:
    if isinstance(value, Mapping) and {"int", "float", "choice"} & value.keys():
        return ". Only what stands under `space:` can be searched."
    return "" if isinstance(value, Mapping) or not described else f". Its keys: {listed(_fields(described))}."


def _wrong_tag(at: Spot, detail: ErrorDetails, described: list[type[Config]]) -> None:
    tag = str(detail.get("ctx", {})["discriminator"]).strip("'")
    allowed = [str(config.model_fields[tag].default) for config in described]
    if detail["type"] == "union_tag_not_found":
        at.wrong(f"`{at.name}` needs `{tag}`, one of {listed(allowed)}")
    else:
        at.wrong_key(tag, unknown(f"{tag} of `{at.name}`:", detail.get("ctx", {})["tag"], allowed))


def _described(config: type[Config], spot: Spot, keys: Keys) -> list[type[Config]]:
    """The configs that may stand at `keys` of a document that `config` describes; none for plain values."""
    candidates = [config]
    for key in keys:
        spot = spot.child(key)
        if isinstance(key, int):
            continue  # an item is described by what describes its list
        fields = [c.model_fields[key] for c in candidates if key in c.model_fields]
        candidates = [c for field in fields for c in members(field.annotation)]
        candidates = [c for c in candidates if _is_named(spot.value, c)] or candidates
    return candidates


def _is_named(value: object, config: type[Config]) -> bool:
    """Whether a mapping says by its `kind` or `source` that it is a `config`."""
    tags = [tag for tag in ("kind", "source") if tag in config.model_fields]
    return isinstance(value, Mapping) and any(value.get(tag) == config.model_fields[tag].default for tag in tags)


def _fields(configs: list[type[Config]]) -> list[str]:
    return list(dict.fromkeys(name for config in configs for name in config.model_fields))


def document_keys(loc: tuple[int | str, ...], value: Any) -> Keys:
    """pydantic's way to an error without the names of union members, which are no keys of the document."""
    keys: list[int | str] = []
    for step in loc:
        inside = step in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(step, int)
        if inside:
            keys.append(step)
            value = value[step]
    return tuple(keys)


def walk(spot: Spot, keys: Keys) -> Spot:
    """The spot at the end of `keys`."""
    for key in keys:
        spot = spot.child(key)
    return spot
