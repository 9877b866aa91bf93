"""Reading a space file from text, with messages that name it `space.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mtlsearch.errors import ConfigError
from mtlsearch.space import Experiment, Space, read_experiment

Read = Callable[..., Experiment]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """`read(text, *overrides)` → the experiment."""
    monkeypatch.chdir(tmp_path)

    def read_text(text: str, *overrides: str) -> Experiment:
        Path("space.yaml").write_text(text, encoding="utf-8")
        return read_experiment(Path("space.yaml"), overrides)

    return read_text


@pytest.fixture
def space_of(read: Read) -> Callable[[str], Space]:
    """`space_of(lines under space:)` → the space."""

    def space(text: str, rest: str = "") -> Space:
        indented = "\n".join("  " + line for line in text.strip("\n").splitlines())
        return read(f"data: {{source: flights}}\nspace:\n{indented}\n{rest}").space

    return space


@pytest.fixture
def message_of(read: Read) -> Callable[..., str]:
    """`message_of(text, *overrides)` → the one message that the text is refused with."""

    def message(text: str, *overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            read(text, *overrides)
        return str(caught.value)

    return message


@pytest.fixture
def model_mistake(message_of: Callable[..., str]) -> Callable[[str], str]:
    """`model_mistake(what stands after model:)` → the message. It is line 3, column 10 of the file."""
    return lambda model: message_of(f"data: {{source: flights}}\nspace:\n  model: {model}\n")
