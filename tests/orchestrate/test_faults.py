"""Why a process ended, told from what Ray really raises; and what of an error stands beside its trial."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from typing import Any

import pytest

from mtlsearch.folder.files import is_disk_full
from mtlsearch.orchestrate.faults import MOST_OF_A_REASON, Fault, TrialEnded, fault_of, reason_of

on_ray = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("default"),  # Ray's own warnings are not ours to mend
]


class Victim:
    """An actor that comes to whatever end."""

    def __init__(self, *, fails: bool = False) -> None:
        if fails:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/flights.csv")

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def sleeps(self) -> None:
        """For long."""
        time.sleep(600)

    def kills_itself(self) -> None:
        """At once, as the kernel does it when memory is short."""
        os.kill(os.getpid(), signal.SIGKILL)

    def exits(self) -> None:
        """As a library may do it."""
        os._exit(3)

    def ends(self, kind: Any, reason: str) -> None:
        """With its own word."""
        try:
            raise RuntimeError("what torch said")
        except RuntimeError as error:
            raise TrialEnded(kind, reason) from error

    def fills_the_disk(self) -> None:
        """As a write does."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/trials/00001/checkpoint/1.pt")

    def runs_out_of_memory(self) -> None:
        """As torch does on a CPU."""
        import torch

        torch.empty(1 << 50, dtype=torch.uint8)

    def is_wrong(self) -> None:
        """As a user's model may be."""
        import torch

        torch.ones(2) @ torch.ones(3)


def victim(**arguments: Any) -> Any:
    """A new one."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its process cannot import this file
    return ray.remote(Victim).options(num_cpus=0).remote(**arguments)


def raised(reference: Any, timeout: float = 60.0) -> Exception:
    """What the caller of an actor gets."""
    import ray

    with pytest.raises(Exception) as found:
        ray.get(reference, timeout=timeout)
    assert isinstance(found.value, Exception)
    return found.value


class TestOnRay:
    """Each of these is Ray's own exception."""

    pytestmark = on_ray

    def test_a_process_that_is_killed_with_9_is_lost(self) -> None:
        import ray

        actor = victim()
        pid = ray.get(actor.pid.remote())
        call = actor.sleeps.remote()
        os.kill(pid, signal.SIGKILL)
        fault = fault_of(raised(call))
        assert fault.kind == "process_lost"
        assert f"process {pid}" in fault.reason
        assert "\n" not in fault.reason

    def test_so_is_one_that_was_lost_before_it_was_called(self) -> None:
        import ray

        actor = victim()
        os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
        raised(actor.sleeps.remote())
        assert fault_of(raised(actor.pid.remote())).kind == "process_lost"

    @pytest.mark.parametrize("how", ["kills_itself", "exits"])
    def test_so_is_one_that_ends_itself(self, how: str) -> None:
        assert fault_of(raised(getattr(victim(), how).remote())).kind == "process_lost"

    def test_so_is_one_that_ray_killed(self) -> None:
        import ray

        actor = victim()
        ray.get(actor.pid.remote())
        call = actor.sleeps.remote()
        ray.kill(actor)
        assert fault_of(raised(call)).kind == "process_lost"

    def test_one_that_cannot_start_is_in_error_with_its_own_words(self) -> None:
        fault = fault_of(raised(victim(fails=True).pid.remote()))
        assert fault.kind == "error"
        assert "/data/flights.csv" in fault.reason

    def test_one_that_does_not_answer_hangs(self) -> None:
        actor = victim()
        fault = fault_of(raised(actor.sleeps.remote(), timeout=0.5))
        assert fault.kind == "hung"
        assert fault.reason.startswith("a rank did not answer in time")

    @pytest.mark.parametrize("kind", ["hung", "out_of_memory", "process_lost", "disk_full", "error"])
    def test_a_trials_own_word_is_taken(self, kind: str) -> None:
        assert fault_of(raised(victim().ends.remote(kind, "because"))) == Fault(kind, "because")  # type: ignore[arg-type]

    def test_a_full_disk_is_known_by_its_number(self) -> None:
        fault = fault_of(raised(victim().fills_the_disk.remote()))
        assert fault.kind == "disk_full"
        assert "/out/trials/00001/checkpoint/1.pt" in fault.reason

    def test_memory_that_torch_does_not_get(self) -> None:
        assert fault_of(raised(victim().runs_out_of_memory.remote())).kind == "out_of_memory"

    def test_anything_else_is_the_trials_own_error(self) -> None:
        fault = fault_of(raised(victim().is_wrong.remote()))
        assert fault.kind == "error"
        assert fault.reason.startswith("RuntimeError: inconsistent tensor size")


def test_a_trials_word_survives_pickling() -> None:
    """It is what crosses from a process that ends to the driver."""
    from ray import cloudpickle

    ended = cloudpickle.loads(cloudpickle.dumps(TrialEnded("hung", "why")))
    assert fault_of(ended) == Fault("hung", "why")


def test_an_error_that_is_not_rays_has_its_class_before_its_words() -> None:
    assert fault_of(ValueError("wrong\nand more")) == Fault("error", "ValueError: wrong")
    assert fault_of(None, "it died\nof this") == Fault("error", "it died")
    assert fault_of(ValueError()) == Fault("error", "ValueError: no reason was given")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disks(number: int) -> None:
    assert is_disk_full(OSError(number, "full"))
    assert fault_of(OSError(number, "full")).kind == "disk_full"


def test_other_errors_are_no_full_disk() -> None:
    assert not is_disk_full(OSError(errno.EACCES, "no"))
    assert not is_disk_full(RuntimeError("No space left on device"))
    assert not is_disk_full(None)
    assert fault_of(PermissionError(errno.EACCES, "no")).kind == "error"


def test_of_a_traceback_the_error_below_its_frames_is_the_reason() -> None:
    text = """Traceback (most recent call last):
  File "loop.py", line 3, in train
    step()
    ^^^^^^
  File "step.py", line 9, in step
    raise ConfigError(text)
mtlsearch.errors.ConfigError: two things are wrong:
the first
and the second
"""
    assert reason_of(text) == "mtlsearch.errors.ConfigError: two things are wrong: the first and the second"


def test_a_reason_is_short() -> None:
    reason = reason_of("word " * 1000)
    assert len(reason) <= MOST_OF_A_REASON
    assert reason.endswith(" …")
