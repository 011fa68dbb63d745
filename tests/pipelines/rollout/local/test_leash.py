"""Commands that die with their parent; see test_daemon.py for a parent that is killed."""

import subprocess
import sys

from pipelines.rollout.local import leash
from pipelines.rollout.local.leash import leashed


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command_takes_the_process_over() -> None:
    done = run(
        leashed(sys.executable, "-c", "import sys; sys.exit(print(*sys.argv[1:]) or 3)", "a b")
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "a b\n", "")


def test_a_command_that_cannot_be_run_is_named() -> None:
    done = run(leashed("/nowhere/python"))
    assert (done.returncode, done.stderr) == (
        1,
        "cannot run /nowhere/python: No such file or directory\n",
    )


def test_a_parent_that_is_gone_already_starts_nothing() -> None:
    done = run([sys.executable, "-IS", leash.__file__, "1234567", sys.executable, "-c", "print(1)"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "process 1234567 has ended\n"
