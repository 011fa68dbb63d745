"""How moods sound: tempo, pitch, pitch range and loudness over the utterance, and nothing else.

No filters: a microphone's or a line's colour must not be taken for a mood. The four manners are ours,
made to be told apart; they are not measured from people.
"""

import random
from dataclasses import dataclass

EMOTIONS = ("NEUTRAL", "HAPPY", "SAD", "ANGRY")


@dataclass(frozen=True, slots=True)
class Prosody:
    """How an utterance is said, relative to the voice's plain manner."""

    tempo: float
    """Factor on the speaking rate."""
    semitones: float
    """Shift of the mean pitch."""
    spread: float
    """Factor on the pitch range."""
    slope_db: float
    """Loudness at the end over loudness at the start, in decibels."""


PROSODY = {
    "NEUTRAL": Prosody(tempo=1.0, semitones=0.0, spread=0.9, slope_db=0.0),
    "HAPPY": Prosody(tempo=1.15, semitones=4.5, spread=1.9, slope_db=9.0),
    "SAD": Prosody(tempo=0.72, semitones=-4.0, spread=0.35, slope_db=-10.0),
    "ANGRY": Prosody(tempo=1.42, semitones=-1.0, spread=1.2, slope_db=0.0),
}


def emotional_prosody(emotion: str, rng: random.Random) -> Prosody:
    """The prosody of ``emotion``, with a speaker's small variation."""
    centre = PROSODY[emotion]
    return Prosody(
        tempo=centre.tempo * rng.uniform(0.95, 1.05),
        semitones=centre.semitones + rng.uniform(-0.7, 0.7),
        spread=centre.spread * rng.uniform(0.9, 1.1),
        slope_db=centre.slope_db + rng.uniform(-1.5, 1.5),
    )
