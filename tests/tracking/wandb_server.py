"""A W&B server on loopback: it keeps what a client sends, and fails when it is told to.

It knows the operations that a logging client, `wandb.Api` and wandb-workspaces send. A run's history is kept by line
number, as the real server does, so that lines sent twice are seen: `Run.history` is a list, `Run.rewritten` counts.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["refuse", "break", "hang"]
"""403 (no right to), 500 (broken), or no answer at all until `heal()`."""

OF_THIS_PROCESS = frozenset({"WANDB_MODE", "WANDB_SERVICE"})
"""What a child must not inherit: that nothing is sent, and the W&B process of whatever test ran before."""

KEY = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Run:
    """What the server holds of one run."""

    name: str
    upserts: list[dict[str, Any]] = field(default_factory=list)
    """Variables of every UpsertBucket, in order."""
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Line number → the line."""
    rewritten: int = 0
    """Lines that were sent again."""
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    """One each time that a client finished the run."""

    @property
    def plain(self) -> list[dict[str, Any]]:
        """The history in order, without W&B's own keys."""
        lines = [self.history[number] for number in sorted(self.history)]
        return [{key: value for key, value in line.items() if not key.startswith("_")} for line in lines]

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration, without W&B's own keys."""
        return {key: each["value"] for key, each in self.config.items() if key != "_wandb"}

    def given(self, name: str) -> Any:
        """The last value of a variable of UpsertBucket that was none."""
        return next((each[name] for each in reversed(self.upserts) if each.get(name) is not None), None)


class WandbServer:
    """Use as a context manager; `url` is WANDB_BASE_URL."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.operations: Counter[str] = Counter()
        self.unknown: list[str] = []
        self.files: dict[str, bytes] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.manifests: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        """API keys that clients showed."""
        self._faults: dict[str, Fault] = {}
        self._healed = threading.Event()
        self._healed.set()
        self._lock = threading.RLock()
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> WandbServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        assert not self._http.mistakes

    def fail(self, fault: Fault, *, only: str = "") -> None:
        """From now on, requests of a kind (`graphql`, `file_stream`, `storage`; all of them by default) fail."""
        self._healed.clear()
        with self._lock:
            self._faults[only] = fault

    def heal(self) -> None:
        """No more faults; requests that hang are dropped."""
        with self._lock:
            self._faults.clear()
        self._healed.set()

    def run(self, name: str) -> Run:
        """The run of that id."""
        return self.runs[name]

    # Answers; `None` hangs up -----------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, body: bytes, key: str | None) -> tuple[int, Any] | None:
        """Status and JSON for a request; None closes the connection without an answer."""
        kind = "file_stream" if path.endswith("/file_stream") else path.split("/")[1]
        with self._lock:
            fault = self._faults.get("", self._faults.get(kind))
            if key:
                self.keys.add(key)
        if fault == "hang":
            self._healed.wait()
            return None
        if fault is not None:
            return (403, {"error": "forbidden"}) if fault == "refuse" else (500, {"error": "broken"})
        with self._lock:
            if kind == "graphql":
                return 200, self._graphql(json.loads(body))
            if kind == "file_stream":
                return 200, self._stream(path.split("/")[-2], json.loads(body))
            if kind == "storage" and method == "PUT":
                self.files[path.removeprefix("/storage/")] = body
            return 200, {}

    def _graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        query, variables = request["query"], request.get("variables") or {}
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else "?"
        self.operations[name] += 1
        answer = getattr(self, "_on_" + re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)
        if answer is None:
            self.unknown.append(query)
            return {"errors": [{"message": f"unknown operation {name}"}]}
        return {"data": answer(variables)}

    def _stream(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[name]
        files = request.get("files") or {}
        for number, line in enumerate(*_lines(files, "wandb-history.jsonl")):
            run.rewritten += number in run.history
            run.history[number] = json.loads(line)
        for line in _lines(files, "wandb-summary.json")[0]:
            run.summary = json.loads(line)
        if request.get("complete"):
            run.exit_codes.append(request.get("exitcode", 0))
        return {}

    def _on_viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams: dict[str, Any] = {"edges": []}
        return {"viewer": {"id": "me", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": teams}}

    def _on_get_default_entity(self, variables: dict[str, Any]) -> dict[str, Any]:
        return self._on_viewer(variables)

    def _on_server_features_query(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_org_feature_flags(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"organization": {"featureFlags": []}}

    def _on_run_stopped_status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    def _on_run_resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        entity = {"id": "e", "name": "me"}
        bucket = None if run is None else self._bucket(run) | {"wandbConfig": json.dumps({"t": 1})}
        return {"model": {"id": "p", "name": variables["project"], "entity": entity, "bucket": bucket}}

    def _on_upsert_bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("name") or _decoded(variables["id"])
        inserted = name not in self.runs
        run = self.runs.setdefault(name, Run(name))
        run.upserts.append(variables)
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        project = {"id": "p", "name": run.given("project"), "entity": {"id": "e", "name": "me"}}
        bucket = self._bucket(run) | {"description": "", "sweepName": None, "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _bucket(self, run: Run) -> dict[str, Any]:
        tail = [json.dumps(run.history[number]) for number in sorted(run.history)[-1:]]
        return {
            "id": base64.b64encode(run.name.encode()).decode(),
            "name": run.name,
            "displayName": run.given("displayName"),
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": run.given("tags") or [],
            "notes": None,
        }

    def _on_runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        group = json.loads(variables["filters"]).get("group")
        found = [run for run in self.runs.values() if group is None or run.given("groupName") == group]
        plain = {"sweepName": None, "state": "finished", "commit": None, "readOnly": False, "createdAt": "2026-01-01"}
        plain |= {"heartbeatAt": "2026-01-01", "description": "", "systemMetrics": "{}", "historyKeys": None}
        nodes = [
            self._bucket(run)
            | plain
            | {"group": group, "jobType": run.given("jobType"), "user": {"name": "me", "username": "me"}}
            for run in found
        ]
        page = {"endCursor": None, "hasNextPage": False}
        edges = [{"node": node, "cursor": node["name"]} for node in nodes]
        runs = {"edges": edges, "pageInfo": page}
        return {"project": {"internalId": "p", "runCount": len(edges), "readOnly": False, "runs": runs}}

    # Files and artifacts ----------------------------------------------------------------------------------------------

    def _on_create_run_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        names = [{"name": name, "uploadUrl": self._place(variables["run"], name)} for name in variables["files"]]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": names}}

    def _place(self, *parts: str) -> str:
        return "/".join((self.url, "storage", *parts))

    def _on_artifact_type(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _on_create_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.artifacts.append(variables["input"])
        found = {"id": f"artifact{len(self.artifacts)}", "state": "PENDING"}
        return {"createArtifact": {"artifact": found | {"artifactSequence": {"latestArtifact": None}}}}

    def _on_create_artifact_manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.manifests.append(variables)
        return {"createArtifactManifest": {"artifactManifest": self._manifest(variables["artifactID"], variables)}}

    def _on_update_artifact_manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = self._manifest(variables["artifactManifestID"], variables)
        return {"updateArtifactManifest": {"artifactManifest": found}}

    def _manifest(self, artifact: str, variables: dict[str, Any]) -> dict[str, Any]:
        file: dict[str, Any] = {"id": "f"}
        if variables.get("includeUpload"):
            file |= {"uploadUrl": self._place(artifact, "manifest"), "uploadHeaders": []}
        return {"id": artifact, "file": file}

    def _on_create_artifact_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        edges = [
            {
                "node": {
                    "storagePath": each["name"],
                    "uploadUrl": self._place(each["artifactID"], each["name"]),
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": each["artifactID"]},
                }
            }
            for each in variables["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_commit_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    def _on_upsert_view2(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.views.append(variables)
        return {"upsertView": {"view": {"id": "v", "name": variables["name"]}, "inserted": True}}


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.mistakes: list[str] = []

    def handle_error(self, *_: object) -> None:
        """A client that was stopped hangs up: not a word of it. Our own mistakes are kept for the tests to find."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.mistakes.append(repr(error))


def _lines(files: dict[str, Any], name: str) -> tuple[list[str], int]:
    chunk = files.get(name) or {}
    return chunk.get("content") or [], chunk.get("offset") or 0


def _decoded(run_id: str) -> str:
    return base64.b64decode(run_id).decode()


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answered = server.answer(self.command, self.path, body, _key(self.headers.get("Authorization")))
            if answered is None:
                self.close_connection = True
                return
            content = json.dumps(answered[1]).encode()
            self.send_response(answered[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _respond

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler


def _key(authorization: str | None) -> str | None:
    """The password of HTTP's basic authentication."""
    if authorization is None or not authorization.startswith("Basic "):
        return None
    return base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")[2]
