"""A space file, read: the one place where text becomes typed configs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mtlsearch.config import (
    BudgetConfig,
    DataConfig,
    FinalConfig,
    ObjectiveConfig,
    ResourcesConfig,
    SearchConfig,
    TrackingConfig,
)
from mtlsearch.errors import ConfigError, Where
from mtlsearch.space import override, translate
from mtlsearch.space.assign import assign
from mtlsearch.space.build import read_tree
from mtlsearch.space.constraint import read_constraint
from mtlsearch.space.document import Document, parse, read_text
from mtlsearch.space.mistakes import Mistakes, Spot
from mtlsearch.space.sections import Sections, name_of
from mtlsearch.space.space import Space
from mtlsearch.space.spelling import shown


@dataclass(frozen=True)
class Experiment:
    """Everything that a space file says."""

    name: str
    data: DataConfig
    space: Space
    objective: ObjectiveConfig
    search: SearchConfig
    budget: BudgetConfig
    final: FinalConfig | None
    resources: ResourcesConfig
    tracking: TrackingConfig
    source: Path
    """The file."""
    text: str
    """The file's text as given; with `overrides`, it makes this experiment again."""
    overrides: tuple[str, ...]
    document: Document = field(repr=False, compare=False)

    def where(self, *keys: str | int) -> Where:
        """Where a key stands, or the nearest one above it that the file has; for checks that come later."""
        return self.document.key_place(keys)


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads a space file, with `--set` overrides applied to it before it is validated.

    Raises:
        ConfigError: the file or an override is wrong; the message tells all mistakes with their lines.
    """
    text = read_text(path)
    document = parse(text, Where(path))
    if not isinstance(document.value, dict):
        found = "an empty file" if document.value is None else shown(document.value)
        raise ConfigError(
            f"a space file must be a mapping with at least `data` and `space`, found {found}", Where(path)
        )
    for change in overrides:
        override.apply(document, change)
    mistakes = Mistakes(document)
    sections, space = _read(Spot(document.value, (), mistakes))
    mistakes.raise_any()
    assert sections is not None
    assert space is not None
    return Experiment(
        name=sections.name or name_of(path.stem),
        data=sections.data,
        space=space,
        objective=sections.objective,
        search=sections.search,
        budget=sections.budget,
        final=sections.final,
        resources=sections.resources,
        tracking=sections.tracking,
        source=path,
        text=text,
        overrides=tuple(overrides),
        document=document,
    )


def _read(spot: Spot) -> tuple[Sections | None, Space | None]:
    """All sections and the space; None for what has mistakes."""
    sections = _read_sections(spot)
    space = _read_space(spot) if isinstance(spot.value.get("space"), Mapping) else None
    if space is not None:
        _check_enqueued(spot, space)
    return sections, space


def _read_sections(spot: Spot) -> Sections | None:
    try:
        return Sections.model_validate_json(json.dumps(spot.value))
    except ValidationError as error:
        translate.report(error, Sections, spot)
        return None


def _read_space(spot: Spot) -> Space | None:
    before = len(spot.mistakes.found)
    root = read_tree(spot.child("space"))
    if len(spot.mistakes.found) > before:
        return None  # a name that a broken branch lacks would be a second message for one mistake
    items = spot.value.get("constraints", [])
    texts = [spot.child("constraints").child(i) for i in range(len(items))] if isinstance(items, list) else []
    constraints = [read_constraint(text, root) for text in texts if isinstance(text.value, str)]
    return Space(root, tuple(constraint for constraint in constraints if constraint is not None))


def _check_enqueued(spot: Spot, space: Space) -> None:
    search: Any = spot.value.get("search")
    items = search.get("enqueue") if isinstance(search, Mapping) else None
    for i in range(len(items)) if isinstance(items, list) else ():
        item = spot.child("search").child("enqueue").child(i)
        if isinstance(item.value, Mapping):
            assign(item, space.root, "")
