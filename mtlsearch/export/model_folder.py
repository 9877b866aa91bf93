"""A model's folder: what is in it, written whole or not at all, and refused when a byte of it has changed.

MODEL/manifest.json       the format and the sha256 of every other file
MODEL/config.json         architecture, input columns, tasks, which trial of which experiment, how its data was read
MODEL/schema.json         the columns' encoders, the tasks' label scales, the data's digest
MODEL/model.safetensors   the weights
MODEL/program.pt2         the same model as a `torch.export` program, where it can be one
MODEL/README.md           the model card

Nothing is unpickled when it is loaded; the program is only read when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from mtlsearch.config import ArchitectureConfig, Config, DataConfig, Task
from mtlsearch.data import DataSchema
from mtlsearch.errors import ConfigError, Where
from mtlsearch.export.column_kinds import ColumnKind
from mtlsearch.models import InputSpec
from mtlsearch.records import Role, State
from mtlsearch.train.tensors import input_spec

T = TypeVar("T", bound=Config)

FORMAT = 1
"""Counts up whenever an older release could not read the folder."""

MANIFEST, CONFIG, SCHEMA, WEIGHTS = "manifest.json", "config.json", "schema.json", "model.safetensors"
PROGRAM, CARD = "program.pt2", "README.md"
NEEDED = (CONFIG, SCHEMA, WEIGHTS, CARD)


class ModelConfig(Config):
    """config.json."""

    mtlsearch: str
    """The release that wrote it."""
    experiment: str
    trial: int
    role: Role
    state: State
    best_epoch: int
    """The epoch whose weights these are: the best one on validation."""
    model: ArchitectureConfig
    seed: int
    """What was drawn when the model was built, like exclusive experts, follows from it."""
    inputs: InputSpec
    tasks: tuple[Task, ...]
    data: DataConfig
    """How the experiment read its data: raw sequences are cut into steps as it says."""
    program: str | None
    """Why there is no program.pt2; None where there is one."""
    kinds: dict[str, ColumnKind] = Field(default_factory=dict)
    """Column of the table that it learnt from → what it held, where that is known."""


class ModelFolder:
    """A folder that has been looked through: every file is as it was written."""

    def __init__(self, path: Path, config: ModelConfig, schema: DataSchema) -> None:
        self.path, self.config, self.schema = path, config, schema

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """Reads the manifest, holds every file against it, and reads what is JSON.

        Raises:
            ConfigError: the folder is no model, was made by a newer release, or a file is missing, has changed, or is
                none that was exported.
        """
        files = _manifest(path)
        for name, digest in files.items():
            _check_digest(path / name, digest)
        _check_listed(path, files)
        config, schema = _read(ModelConfig, path / CONFIG), _read(DataSchema, path / SCHEMA)
        if config.program is None and PROGRAM not in files:
            raise _lacks(PROGRAM, Where(path / MANIFEST))
        if input_spec(schema) != config.inputs or any(task not in schema.tasks for task in config.tasks):
            raise ConfigError(
                f"the model's columns and tasks must be those of {SCHEMA}, but are others. Export the model again.",
                Where(path / CONFIG),
            )
        return cls(path, config, schema)

    @property
    def weights(self) -> Path:
        """model.safetensors."""
        return self.path / WEIGHTS

    @property
    def program(self) -> Path:
        """program.pt2. Raises ConfigError where there is none."""
        if self.config.program is not None:
            raise ConfigError(f"{self.path} has no {PROGRAM}: {self.config.program}. Use `predict`.")
        return self.path / PROGRAM

    @property
    def card(self) -> str:
        """README.md."""
        return (self.path / CARD).read_text(encoding="utf-8")


def check_place(out: Path, force: bool) -> None:
    """Refuses a place for a new model where something is.

    Raises:
        ConfigError: there is a file, or a folder that is not empty; with `force`, one that is no model.
    """
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir()) and not out.samefile(Path.cwd())):
            return
        is_model = (out / MANIFEST).is_file()
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}. Choose another folder.") from error
    if not force:
        instead = " or replace it with --force" if is_model else ""
        raise ConfigError(f"--out must be a new folder, but {out} exists. Choose another{instead}.")
    if not is_model:
        raise ConfigError(f"--force replaces a model, but {out} is none: it has no {MANIFEST}. Choose another folder.")


def write_model(out: Path, write: Callable[[Path], None], force: bool) -> None:
    """Lets `write` fill a folder aside, seals it, and puts it in its place.

    Raises:
        ConfigError: something is there already, or the place cannot be written to.
    """
    check_place(out, force)
    out = out.absolute()
    aside, before = (out.with_name(f".{out.name}.{os.getpid()}.{part}") for part in ("new", "old"))
    try:
        aside.mkdir(parents=True)
        write(aside)
        _seal(aside)
        if out.exists():
            out.replace(before)
        aside.replace(out)
    except OSError as error:
        if before.exists() and not out.exists():
            before.replace(out)
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}. Choose another folder.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def _seal(folder: Path) -> None:
    """Writes the manifest of all that is in the folder."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1), encoding="utf-8")


def _manifest(path: Path) -> Mapping[str, str]:
    """File → sha256."""
    place = path / MANIFEST
    if not place.is_file():
        found = f"has no {MANIFEST}" if path.is_dir() else "is not a folder"
        raise ConfigError(f"{path} is no model: it {found}. Give a folder that `mtlsearch export --out` wrote.")
    try:
        manifest: Any = json.loads(place.read_bytes())
        version, files = manifest["format"], dict(manifest["files"])
        if type(version) is not int or not all(_is_entry(*entry) for entry in files.items()):
            raise TypeError("a format is a number, and a file has a digest")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError("the file must be a model's manifest, but is damaged. Export again.", Where(place)) from error
    if version != FORMAT:
        raise ConfigError(
            f"the model's format must be {FORMAT}, which this release of mtlsearch reads, but it is {version}. "
            "Install the release that wrote it (see its config.json), or export again.",
            Where(place),
        )
    if missing := [name for name in NEEDED if name not in files]:
        raise _lacks(missing[0], Where(place))
    return files


def _is_entry(name: Any, digest: Any) -> bool:
    """Whether it is a file of this very folder, with a digest."""
    return isinstance(name, str) and isinstance(digest, str) and name == Path(name).name != ""


def _lacks(name: str, where: Where) -> ConfigError:
    return ConfigError(f"the manifest must name {name}, but does not. Export again.", where)


def _check_listed(path: Path, files: Mapping[str, str]) -> None:
    """What is hidden is passed over: a desktop leaves such files in any folder."""
    for each in sorted(path.iterdir()):
        if each.name not in files and each.name != MANIFEST and not each.name.startswith("."):
            raise ConfigError(
                f"a model's folder must hold what was exported alone, but {MANIFEST} does not name this. Move it away.",
                Where(each),
            )


def _check_digest(path: Path, digest: str) -> None:
    if not path.is_file():
        raise ConfigError("the file must be there, but is missing. Export the model again.", Where(path))
    if _sha256(path) != digest:
        raise ConfigError(
            f"the file must be as it was exported, but its sha256 is not the one in {MANIFEST}: it was changed or "
            "damaged. Export the model again.",
            Where(path),
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(kind: type[T], path: Path) -> T:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigError(
            f"the file must be what `mtlsearch export` writes, but is not ({error.error_count()} faults). Export again "
            "with this release.",
            Where(path),
        ) from error
