"""The base of every config, and the default search range that a field may own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Search:
    """A field's default search range, in the very words of a space file.

    `Annotated[int, Search({"int": [2, 16], "log": True})]` is what a space file would write as
    `{int: [2, 16], log: true}`. It holds when a component is named without its fields (`model: mmoe`).
    """

    domain: Mapping[str, Any]


class Config(BaseModel):
    """Frozen, strict (no string becomes a number), and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @classmethod
    def default_ranges(cls) -> dict[str, Mapping[str, Any]]:
        """Field name → default search range, for the fields that own one."""
        return {
            name: mark.domain
            for name, field in cls.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Search)
        }
