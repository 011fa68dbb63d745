"""Files that chance has damaged, of every container and codec."""

from contextlib import suppress
from functools import cache

import pytest

from predictor.engine import audio
from predictor.engine.errors import InvalidAudio
from tests.reliability.hostile import formats, mutations, trials

CPU_SECONDS = 5
"""What a file of some kilobytes may take: a hundred times what the slowest intact one does."""

GROWN_BYTES = 300 << 20
"""What decoding may have in memory at its highest, beside the file."""


@cache
def _intact() -> dict[str, bytes]:
    return formats.intact()


def _intact_file(index: int) -> tuple[str, bytes]:
    return list(_intact().items())[index]


def _damaged_file(index: int) -> tuple[str, bytes]:
    names, files = list(_intact()), list(_intact().values())
    return f"fuzz {index} {names[index % len(names)]}", mutations.mutated(files, index)


@pytest.mark.promise("Every container and codec that can be written here is decoded")
def test_intact_files(tried, measured):
    by_chance = set(formats.by_hand())
    outcome = trials.decode_all(_intact_file, range(len(_intact())), CPU_SECONDS, processes=1)
    for trial in outcome.trials:
        assert trial.held, trial
        assert trial.ended == "decoded" or trial.name in by_chance, trial
    tried["files"] += len(outcome.trials)
    measured["slowest file"] = f"{outcome.slowest.seconds * 1000:.0f} ms"


@pytest.mark.promise(
    "A damaged or hostile file ends in samples or in an error that says what is wrong, soon and in "
    "little memory; no decoder crashes or hangs"
)
def test_damaged_files(effort, tried, measured):
    outcome = trials.decode_all(_damaged_file, range(effort(1_500, 30_000)), CPU_SECONDS)
    tried["damaged files"] += len(outcome.trials)
    counts = outcome.counts
    measured["decoded"] = f"{counts['decoded']:,}"
    measured["refused"] = f"{len(outcome.trials) - counts['decoded'] - counts['broken']:,}"
    measured["slowest damaged file"] = f"{outcome.slowest.seconds * 1000:.0f} ms"
    measured["most memory for a damaged file"] = f"{outcome.largest.grown >> 20} MiB"
    assert not outcome.broken, f"kept in {trials.KEPT}: {outcome.broken[:5]}"
    assert outcome.largest.grown <= GROWN_BYTES, outcome.largest
    # Else nothing would have come as far as a decoder.
    assert counts["decoded"] > len(outcome.trials) / 4


def test_files_reach_every_demuxer():
    """So that nothing which the service opens stays untried."""
    reached = set()
    for data in _intact().values():
        with suppress(InvalidAudio), audio._open(data) as container:
            reached.update(container.format.name.split(","))
    # Opened as amr, whose headers say which of the two it is.
    assert set(audio.DEMUXERS.split(",")) <= reached | {"amrnb", "amrwb"}
