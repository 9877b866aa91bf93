"""Tells Ray when the cloud is about to take this machine back: trials leave it with a checkpoint, in time.

    python spot_notice.py aws      # or gcp; started on spot workers by cluster/aws.yaml and cluster/gcp.yaml

Asks the machine's metadata server every few seconds. On a notice it drains this machine's Ray node with the reason
preemption and the time that is left, and ends. AWS gives two minutes' notice, Google Cloud thirty seconds.

Tested against an HTTP server in the metadata server's place and a real Ray node; not run on either cloud.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

EVERY_SECONDS = 2.0
ANSWER_SECONDS = 5.0
GCP_NOTICE_SECONDS = 30.0
LEAST_SECONDS = 1.0
"""Ray wants a deadline that lies ahead."""

Deadline = float
"""When the machine is taken, in seconds since 1970."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # metadata servers are never behind a proxy


def aws_notice() -> Deadline | None:
    """When AWS takes this instance; None while it keeps it. Stopping and hibernating are taking, too."""
    server = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
    token = _ask(f"{server}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    try:
        said = _ask(f"{server}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    taken = datetime.strptime(json.loads(said)["time"], "%Y-%m-%dT%H:%M:%SZ")
    return taken.replace(tzinfo=UTC).timestamp()


def gcp_notice() -> Deadline | None:
    """When Google Cloud takes this instance; None while it keeps it."""
    server = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    said = _ask(f"http://{server}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return time.time() + GCP_NOTICE_SECONDS if said.strip() == "TRUE" else None


NOTICES: Mapping[str, Callable[[], Deadline | None]] = {"aws": aws_notice, "gcp": gcp_notice}


def wait_for_notice(notice: Callable[[], Deadline | None]) -> Deadline:
    """Asks until there is one. A metadata server that does not answer is asked again, and said so once."""
    silent = False
    while True:
        try:
            deadline = notice()
        except OSError as error:  # refused, timed out, an HTTP error
            if not silent:
                _say(f"the metadata server does not answer ({error}); asking on")
            silent = True
        else:
            if deadline is not None:
                return deadline
            silent = False
        time.sleep(EVERY_SECONDS)


def drain(deadline: Deadline) -> bool:
    """Marks this machine's Ray node as draining; tries until that is accepted or the time is up."""
    while True:
        left = max(LEAST_SECONDS, deadline - time.time())
        command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--reason=DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message=spot notice", f"--deadline-remaining-seconds={int(left)}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            _say(f"drained with {int(left)} s left")
            return True
        _say(f"not drained: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
        if time.time() > deadline:
            return False
        time.sleep(1)


def main() -> int:
    """Waits for one notice and drains; 1 when Ray did not take it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cloud", choices=sorted(NOTICES))
    deadline = wait_for_notice(NOTICES[parser.parse_args().cloud])
    _say(f"this machine is taken in {deadline - time.time():.0f} s")
    return 0 if drain(deadline) else 1


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    with _DIRECT.open(request, timeout=ANSWER_SECONDS) as answer:
        body: bytes = answer.read()
    return body.decode()


def _say(text: str) -> None:
    sys.stdout.write(f"{datetime.now():%H:%M:%S} spot notice: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
