"""The JSON schema (draft 2020-12) of a space file, for editors; from the same models that read it."""

from __future__ import annotations

from typing import Any

from mtlsearch.config import Config, TaskWeights, TrialConfig
from mtlsearch.config.balancing import TaskWeight
from mtlsearch.space.family import Family, family
from mtlsearch.space.sections import Sections

Schema = dict[str, Any]


def json_schema() -> Schema:
    """What a space file may hold, domains included."""
    schema = Sections.model_json_schema()
    definitions: Schema = schema["$defs"]
    definitions |= {"int range": _range("int", "integer"), "float range": _range("float", "number")}
    space = _component(TrialConfig, definitions)
    schema["properties"]["space"] = {**space, "required": ["model"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "mtlsearch space file",
    }


def _range(form: str, number: str) -> Schema:
    bounds = {"type": "array", "items": {"type": number}, "minItems": 2, "maxItems": 2}
    return {
        "type": "object",
        "description": f"{{{form}: [low, high]}}, with log: true or with a step",
        "properties": {
            form: bounds,
            "log": {"type": "boolean"},
            "step": {"type": number, "exclusiveMinimum": 0},
        },
        "required": [form],
        "additionalProperties": False,
    }


def _component(config: type[Config], definitions: Schema) -> Schema:
    """A component that is written out: its fields as values, domains or components."""
    plain = config.model_json_schema()["properties"]
    properties: Schema = {}
    for name in config.model_fields:
        kinds = family(config, name)
        if name == "kind":
            properties[name] = {"const": config.model_fields[name].default}
        elif config.model_fields[name].annotation is TaskWeights:
            properties[name] = _weights(plain[name])
        elif kinds:
            described = config.model_fields[name].description
            properties[name] = _slot(kinds, definitions) | ({"description": described} if described else {})
        else:
            properties[name] = _leaf(plain[name])
    return {
        "type": "object",
        "description": (config.__doc__ or "").strip(),
        "properties": properties,
        "additionalProperties": False,
        **({"required": needed} if (needed := _needed(config)) and config is not TrialConfig else {}),
    }


def _needed(config: type[Config]) -> list[str]:
    """Fields without a default: a component that has some, and no range for them, cannot be named alone."""
    return [name for name, field in config.model_fields.items() if field.is_required()]


def _weights(field: Schema) -> Schema:
    """Any name, and its weight as a value or a domain."""
    about: Schema = {key: field[key] for key in ("description",) if key in field}
    weight = _leaf(TaskWeight.model_json_schema()["properties"]["weight"])
    return {**about, "type": "object", "minProperties": 1, "additionalProperties": weight}


def _leaf(value: Schema) -> Schema:
    about: Schema = {key: value[key] for key in ("description", "default") if key in value}
    plain = {key: item for key, item in value.items() if key not in ("description", "default", "title")}
    choice = {"type": "array", "items": plain, "minItems": 1, "uniqueItems": True}
    ranges = [{"$ref": "#/$defs/int range"}, {"$ref": "#/$defs/float range"}]
    return {**about, "anyOf": [plain, *(ranges if _is_numeric(plain) else []), _choice(choice)]}


def _is_numeric(plain: Schema) -> bool:
    types = [plain, *plain.get("anyOf", [])]
    numbers = [value for option in types for value in option.get("enum", []) if isinstance(value, int)]
    return bool(numbers) or any(option.get("type") in ("integer", "number") for option in types)


def _choice(items: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {"choice": items},
        "required": ["choice"],
        "additionalProperties": False,
    }


def _slot(kinds: Family, definitions: Schema) -> Schema:
    """A field that holds a component: a name, a mapping with its kind, or a choice of both."""
    written: list[Schema] = []
    for kind, config in kinds.kinds.items():
        key = f"space {config.__name__}"
        if key not in definitions:
            definitions[key] = {}  # taken before its own fields are described
            definitions[key] = _component(config, definitions)
        required = {} if kind == kinds.implied else {"required": ["kind"]}
        written.append({"$ref": f"#/$defs/{key}", **required})
    alone = [kind for kind, config in kinds.kinds.items() if set(_needed(config)) <= config.default_ranges().keys()]
    one = {"anyOf": [{"enum": alone}, *written]}
    items = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    return {"anyOf": [*one["anyOf"], _choice(items)]}
