"""What a person sees of kfp's output, in the forms that kfp 2.17 prints."""

import io

import pytest

from pipelines.local.progress import Progress

RUN = """\
14:15:59.117 - INFO - Running pipeline: \x1b[95m'sensevoice-release'\x1b[0m
--------------------------------------------------------------------------------
14:16:02.117 - INFO - Executing task \x1b[96m'gate'\x1b[0m
14:16:02.118 - INFO - Streamed logs:

    Traceback (most recent call last):
      File "<frozen runpy>", line 198, in _run_module_as_main
    pipelines.steps.gate.Refused: the gate refuses the model: words-zh: 0.4, at most 0.1
14:16:03.117 - ERROR - Task \x1b[96m'gate'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
14:16:04.117 - INFO - Task \x1b[96m'conclude'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
14:16:04.118 - INFO - Task \x1b[96m'conclude'\x1b[0m outputs:
"""


@pytest.mark.parametrize("size", [1, 7, len(RUN)])
def test_a_line_a_task_and_everything_in_the_log(size):
    log, screen = io.StringIO(), io.StringIO()
    progress = Progress(log, screen)
    for start in range(0, len(RUN), size):
        print(RUN[start : start + size], end="", file=progress)
    assert log.getvalue() == RUN
    shown = [line.split()[:2] for line in screen.getvalue().splitlines()]
    assert shown == [["✗", "gate"], ["✓", "conclude"]]
    assert progress.error == (
        "pipelines.steps.gate.Refused: the gate refuses the model: words-zh: 0.4, at most 0.1"
    )


def test_without_a_failure_there_is_no_error():
    progress = Progress(io.StringIO(), io.StringIO())
    print("14:16:04.117 - INFO - Task 'a' finished with status SUCCESS", file=progress)
    print("note: this is no exception", file=progress)
    assert progress.error == ""
