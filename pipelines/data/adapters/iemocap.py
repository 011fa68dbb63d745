"""IEMOCAP (Busso et al. 2008, doi:10.1007/s10579-008-9076-6): acted English dialogues.

The label is the annotators' majority. SenseVoice scores four classes; the field counts excitement as
happiness there (5,531 utterances, as in emotion2vec, arXiv:2312.15185). Where annotators disagree (``xxx``)
no emotion is given; frustration is an emotion, but none of SenseVoice's.
"""

import re
from pathlib import Path

from pipelines.data.adapter import Adapter, read_lines, require_folder, require_matches, translate
from pipelines.data.manifest import Utterance

EMOTIONS = {
    "ang": "ANGRY",
    "hap": "HAPPY",
    "exc": "HAPPY",
    "sad": "SAD",
    "neu": "NEUTRAL",
    "fea": "FEARFUL",
    "dis": "DISGUSTED",
    "sur": "SURPRISED",
    "fru": "OTHER",
    "oth": "OTHER",
    "xxx": "",
}

_TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\w+)\t(\w+)\t")
"""``[6.2901 - 8.2357] <tab> Ses01F_impro01_F000 <tab> neu <tab> [2.5, 2.5, 2.5]``"""

_TEXT = re.compile(r"(Ses\w+) \[[\d.]+-[\d.]+\]: (.*)")
"""``Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.``"""

_SOUND = re.compile(r"\[[A-Z+ ]+\]")
"""``[LAUGHTER]``, ``[BREATHING]``, ``[GARBAGE]`` within a text."""


def _read(root: Path) -> list[Utterance]:
    return [
        utterance
        for session in require_matches(root, "Session[1-5]")
        for evaluation in require_matches(session / "dialog" / "EmoEvaluation", "*.txt")
        for utterance in _dialogue(session, evaluation)
    ]


def _dialogue(session: Path, evaluation: Path) -> list[Utterance]:
    folder = require_folder(session / "sentences" / "wav" / evaluation.stem)
    transcript = session / "dialog" / "transcriptions" / evaluation.name
    texts = {
        found[1]: " ".join(_SOUND.sub(" ", found[2]).split())
        for line in read_lines(transcript)
        if (found := _TEXT.match(line))
    }
    turns = [found for line in read_lines(evaluation) if (found := _TURN.match(line))]
    return [
        Utterance(
            id=turn[1],
            audio=str(folder / f"{turn[1]}.wav"),
            text=texts.get(turn[1]),
            language="en",
            emotion=translate(EMOTIONS, turn[2], evaluation) or None,
        )
        for turn in turns
    ]


ADAPTER = Adapter(
    name="iemocap",
    title="IEMOCAP",
    source="https://sail.usc.edu/iemocap/iemocap_release.htm (a form; unpacks to IEMOCAP_full_release)",
    terms="research, by agreement with the University of Southern California",
    languages=("en",),
    labels=("text", "language", "emotion"),
    layout="Session1…Session5, each with dialog/EmoEvaluation/*.txt, dialog/transcriptions/*.txt and "
    "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
    read=_read,
)
