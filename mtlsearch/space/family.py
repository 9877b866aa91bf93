"""Which components a field may hold, read off the config classes themselves."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from mtlsearch.config import Config


@dataclass(frozen=True)
class Family:
    """The components of one field by their kind."""

    kinds: Mapping[str, type[Config]]
    default: str | None
    """The kind of the field's default value; None when the field must be given."""

    @property
    def implied(self) -> str | None:
        """The kind that a mapping without `kind` means: the default one, if it has anything to set."""
        has_fields = self.default is not None and len(self.kinds[self.default].model_fields) > 1
        return self.default if has_fields else None


def members(annotation: Any) -> Iterator[type[Config]]:
    """The config classes that an annotation allows."""
    if get_origin(annotation) is Annotated:
        yield from members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from members(argument)
    elif isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation


@cache
def family(config: type[Config], field: str) -> Family | None:
    """The components that `field` of `config` may hold; None when it holds plain values."""
    info = config.model_fields[field]
    kinds = {str(c.model_fields["kind"].default): c for c in members(info.annotation) if "kind" in c.model_fields}
    if not kinds:
        return None
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    return Family(kinds, getattr(default, "kind", None))
