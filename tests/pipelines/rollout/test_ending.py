import signal
import subprocess
import sys
import threading

import pytest

from pipelines.rollout.ending import ending, terminable, told
from pipelines.rollout.state import Candidate, RolloutState
from pipelines.rollout.target import Unavailable


@pytest.fixture
def state():
    return RolloutState(
        rollout="r",
        owner="o",
        heartbeat=0,
        lease=120,
        candidate=Candidate(version="7", storage_uri="u", digest="d"),
        phase="rolling",
        percent=25,
        stable="voice-00001",
    )


# In a process of its own: a test may run in a thread, where there are no signals.
ENDED = """
import signal
from pipelines.rollout.ending import terminable
try:
    with terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            print("the last word")
finally:
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


def test_the_signal_is_an_exit_whose_last_word_is_not_cut():
    """SIGTERM, and again in what is done because of it."""
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert done.stdout.split("\n") == ["the last word", "True", ""]


def test_another_thread_is_not_told_of_signals():
    entered = []

    def work():
        with terminable():
            entered.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [True]


def test_what_is_left_names_who_serves_and_the_command(state):
    text = ending("voice", state)
    assert "all users of voice were given back to voice-00001; roll version 7 out again" in text
    assert "python -m pipelines.abandon" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"phase": "promoting", "percent": None}, "version 7 was given all users"),
        ({"phase": "rolling_back", "percent": 0}, "were given back to voice-00001; what follows"),
        ({"phase": "rolling_back", "stable": ""}, "were left to version 7; what follows"),
        ({"stable": "", "percent": None}, "version 7 has all users of voice, which served nothing"),
    ],
)
def test_each_phase_has_its_words(state, changes, text):
    assert text in ending("voice", state.model_copy(update=changes))


def test_what_could_not_be_written_is_told_as_it_is(state):
    text = ending("voice", state, "nobody answers")
    assert "was left rolling, with 25 % of the users on version 7" in text
    assert "nobody answers" in text
    assert "120 s after its last word" in text


def test_a_write_that_got_no_answer_may_have_been_made(state):
    more = state.model_copy(update={"percent": 50, "heartbeat": 1})
    text = ending("voice", state, "nobody answers", more)
    assert (
        "left rolling, with 25 % of the users on version 7 or rolling, with 50 % of the users on version 7"
    ) in text
    same = state.model_copy(update={"heartbeat": 1})
    assert ending("voice", state, "nobody answers", same) == ending(
        "voice", state, "nobody answers"
    )


def test_errors_in_words():
    assert told(Unavailable("nobody answers")) == "nobody answers"
    assert told(KeyError("x")) == "KeyError('x')"
    assert told(SystemExit(143)) == "the rollout's process was told to end"
