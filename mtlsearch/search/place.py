"""Where a study is: in a file of the experiment's folder, or in a database that several drivers share."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlsearch.folder import ExperimentFolder


@dataclass(frozen=True)
class Database:
    """A study in a database, as the driver of one folder uses it."""

    url: str
    study: str
    driver: str
    """The folder's name among the drivers of this study: a trial belongs to the one that started it."""
    folder: str
    """`host:path` of the folder, or its URI, for people."""
    data_digest: str | None = None

    @property
    def stamp(self) -> dict[str, Any]:
        """What is written into each trial that this driver starts."""
        return {"id": self.driver, "folder": self.folder}


StudyPlace = Path | Database


def study_of(folder: ExperimentFolder) -> StudyPlace:
    """Where the folder's study is.

    Raises:
        ConfigError: plan.json is damaged.
    """
    plan = folder.read_plan() if folder.plan.exists() else {}
    uri = None if folder.uri is None else folder.uri.partition("?")[0]
    if plan.get("storage") is None:
        return folder.journal
    return Database(
        url=plan["storage"],
        study=plan["name"],
        driver=plan["driver"],
        folder=uri or f"{socket.gethostname()}:{folder.path.resolve()}",
        data_digest=plan.get("data_digest"),
    )
