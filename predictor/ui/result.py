"""What the browser is told: plain JSON values, one kind for each state of a request.

``assets/result.js`` draws them and knows their names.
"""

from pathlib import Path
from typing import Any, TypeAlias

import orjson

from predictor.client import ServiceError
from predictor.engine import subtitles
from predictor.engine.types import Transcript

State: TypeAlias = dict[str, Any]

IDLE: State = {"state": "idle"}
NO_AUDIO: State = {"state": "no_audio"}
WORKING: State = {"state": "working"}


def waking(about: float, waited: float) -> State:
    """The service starts from zero.

    Args:
        about: seconds that it takes.
        waited: seconds since it was asked.
    """
    return {"state": "waking", "about": round(about), "waited": round(waited)}


def refused(error: ServiceError) -> State:
    """The service's sentence as it is."""
    return {"state": "failed", "message": error.message, "status": error.status}


def done(transcript: Transcript, audio: Path, outline: list[float], seconds: float) -> State:
    """A transcript with what draws, plays and saves it.

    Args:
        audio: the file, as the page's own server gives it out.
        outline: see :func:`predictor.ui.waveform.outline`.
        seconds: from the request to the answer.
    """
    whole = transcript.to_dict()
    return {
        "state": "done",
        "name": audio.stem,
        "audio": str(audio),
        "outline": outline,
        "seconds": round(seconds, 2),
        "transcript": whole,
        "files": {
            "srt": subtitles.srt(transcript),
            "vtt": subtitles.vtt(transcript),
            "json": orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode(),
        },
    }
