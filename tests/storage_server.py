"""A real S3 API on loopback, by moto, in a process of its own: `stop` and `start` on its standard input, data stays."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.request import Request, urlopen

BUCKET = "bucket"


class StorageServer:
    """The server. Use as a context."""

    def __enter__(self) -> StorageServer:
        command = [sys.executable, str(Path(__file__))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self._answer()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait(timeout=30)
        self._pipe(self._process.stdout).close()

    @property
    def environment(self) -> dict[str, str]:
        """What pyarrow needs to find it."""
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        return keys | {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}

    def stop(self) -> None:
        """Refuses connections from now on."""
        self._say("stop")

    def start(self) -> None:
        """Answers again."""
        self._say("start")

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Knows no key within it."""
        self._take_without_login("0")
        try:
            yield
        finally:
            self._take_without_login("inf")

    def _take_without_login(self, requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        question = Request(f"{self.url}/moto-api/reset-auth", requests.encode(), headers)
        with urlopen(question, timeout=10) as answer:
            assert answer.status == 200

    def _say(self, word: str) -> None:
        pipe = self._pipe(self._process.stdin)
        pipe.write(f"{word}\n")
        pipe.flush()
        assert self._answer() == word

    def _answer(self) -> str:
        return self._pipe(self._process.stdout).readline().strip()

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def main() -> None:
    """Until the standard input ends."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    login = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **login).create_bucket(Bucket=BUCKET)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line.strip() == "stop":
            server.stop()
        else:
            server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
            server.start()
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
