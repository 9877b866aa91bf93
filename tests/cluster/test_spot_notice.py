"""A spot notice drains the node that it was sent to: an HTTP server is the cloud's, the Ray node is real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).resolve().parents[2]
WATCHER = ROOT / "cluster" / "spot_notice.py"
RAY = str(Path(sys.executable).with_name("ray"))
DRIVER = """
import json, sys, ray
ray.init(logging_level=40, log_to_driver=False)
own = ray.get_runtime_context().get_node_id()

@ray.remote(num_cpus=1)
class Trial:
    def started(self):
        return True

trial = Trial.remote()
ray.get(trial.started.remote())
for _ in sys.stdin:
    print(json.dumps([ray._private.state.state.get_draining_nodes(), own]), flush=True)
"""
"""It is connected and has a trial before the notice comes, as a search's driver: a draining node takes no new driver,
and ends at once when nothing runs on it."""


class Cloud:
    """A metadata server: what it says of this machine, and what it was asked."""

    def __init__(self) -> None:
        self.taken: datetime | None = None
        self.broken = False
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """As AWS (with tokens only) and as Google Cloud."""
        if self.broken:
            return 503, ""
        match method, path:
            case "PUT", "/latest/api/token":
                return (200, "a-token") if "x-aws-ec2-metadata-token-ttl-seconds" in headers else (400, "")
            case "GET", "/latest/meta-data/spot/instance-action":
                if headers.get("x-aws-ec2-metadata-token") != "a-token":
                    return 401, ""
                if self.taken is None:
                    return 404, ""
                return 200, json.dumps({"action": "terminate", "time": f"{self.taken:%Y-%m-%dT%H:%M:%SZ}"})
            case "GET", "/computeMetadata/v1/instance/preempted":
                said = "FALSE" if self.taken is None else "TRUE"
                return (200, said) if headers.get("metadata-flavor") == "Google" else (403, "")
            case _:
                return 404, ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cloud.asked.append(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                code, body = cloud.answer(self.command, self.path, headers)
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body.encode())

            do_PUT = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    thread = threading.Thread(target=cloud.server.serve_forever)
    thread.start()
    try:
        yield cloud
    finally:
        cloud.server.shutdown()
        thread.join()
        cloud.server.server_close()


@pytest.fixture
def ray_node() -> Iterator[dict[str, str]]:
    """A node of its own beside whatever runs here; the environment in which a command finds it."""
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # a short path: sockets are in it
        yield from _ray_node(Path(folder))


def _ray_node(folder: Path) -> Iterator[dict[str, str]]:
    port = 20_000 + os.getpid() % 10_000
    environment = os.environ | {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_TMPDIR": str(folder), "HOME": str(folder)}
    start = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
    command = [RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1"]
    command += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=80000000"]
    with (folder / "ray.log").open("w+") as log:
        node = subprocess.Popen(command, env=start, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            until(lambda: "Ray runtime started" in (folder / "ray.log").read_text() or node.poll() is not None, 60)
            assert node.poll() is None, (folder / "ray.log").read_text()
            yield environment
        finally:
            node.terminate()  # `ray start --block` ends what it started
            try:
                node.wait(30)
            finally:
                node.kill()


def until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.1)


@contextmanager
def driver(environment: dict[str, str]) -> Iterator[Callable[[], tuple[dict[str, int], str]]]:
    """Asks a driver for the draining nodes with their deadlines in ms since 1970, and for this node."""
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        questions, answers = child.stdin, child.stdout

        def ask() -> tuple[dict[str, int], str]:
            questions.write("\n")
            questions.flush()
            nodes, own = json.loads(answers.readline())
            return nodes, own

        try:
            yield ask
        finally:
            child.kill()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(("name", "notice"), [("aws", 120), ("gcp", 30)])
def test_a_notice_drains_this_node_until_its_deadline(
    name: str, notice: int, cloud: Cloud, ray_node: dict[str, str]
) -> None:
    aws, gcp = f"http://{cloud.address}", cloud.address
    environment = ray_node | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": aws, "GCE_METADATA_HOST": gcp}
    cloud.broken = True
    with driver(ray_node) as draining:
        assert draining()[0] == {}
        watcher = subprocess.Popen([sys.executable, str(WATCHER), name], env=environment, stdout=subprocess.PIPE)
        try:
            until(lambda: len(cloud.asked) > 0, 20)
            cloud.broken = False
            asked = len(cloud.asked)
            until(lambda: len(cloud.asked) > asked + 1, 20)  # it asks on, and nothing happens
            assert watcher.poll() is None
            assert draining()[0] == {}
            cloud.taken = datetime.now(UTC) + timedelta(seconds=notice)
            said, _ = watcher.communicate(timeout=60)
        finally:
            watcher.kill()
        assert watcher.returncode == 0, said
        nodes, own = draining()
        assert list(nodes) == [own]
        assert nodes[own] / 1000 == pytest.approx(cloud.taken.timestamp(), abs=5)
        assert said.count(b"does not answer") == 1
