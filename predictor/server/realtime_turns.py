"""What is said in a live session → its text: turns that have ended, in order, and the one that goes on.

Turns are transcribed one by one behind a short queue. Of the one that goes on, a partial transcript is made
only while nothing else waits, one at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from predictor.engine.live import Listener, Turn
from predictor.engine.types import TranscribeOptions, Transcript, Waveform
from predictor.server.agreement import Agreement
from predictor.server.errors import as_speech_error
from predictor.server.lane import Lane
from predictor.server.observer import OK, Observer, RequestRecord, observed
from predictor.server.openai_answer import (
    languages,
    logprobs,
    rounded,
    tags,
    usage,
    words,
    words_of,
)
from predictor.server.openai_error import error_value
from predictor.server.protocol import Item
from predictor.server.transcriber import Transcriber

PATH = "/v1/realtime"

SWITCHING_PROTOCOLS = 101
"""Status of the request that a session began with: its turns have none of their own."""

PARTIAL_SECONDS = 0.6
"""New speech before the next partial transcript."""

MAX_TURNS = 2
"""Turns that wait for the one being transcribed; while so many do, nothing more is taken."""

TRANSCRIPTION = "conversation.item.input_audio_transcription"


def turn_record(session_id: str, turn_id: str = "") -> RequestRecord:
    """What observers are told of a turn, which is to them a request; or of a session that did not begin."""
    return RequestRecord(
        "realtime",
        id="/".join(filter(None, (session_id, turn_id))),
        method="GET",
        route=PATH,
        path=PATH,
        status=SWITCHING_PROTOCOLS,
    )


@dataclass(slots=True)
class Spoken:
    """A turn on its way.

    Attributes:
        item_id: what the client knows it by.
        options: how to transcribe it.
        logprobs: whether to tell those of its words.
        agreement: the text that has been told.
        partial_seconds: how much of it the last partial transcript heard.
        turn: its audio, once it has ended.
        ended: when that was, by ``time.perf_counter``.
    """

    item_id: str
    options: TranscribeOptions
    logprobs: bool
    agreement: Agreement = field(default_factory=Agreement)
    partial_seconds: float = 0.0
    turn: Turn | None = None
    ended: float = 0.0


class Turns:
    """Transcribes the turns of one session.

    Args:
        transcriber: does the work.
        observer: is told of each turn.
        send: sends an event of a type with its fields.
        session_id: for the log.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        observer: Observer,
        send: Callable[..., Awaitable[None]],
        session_id: str,
    ) -> None:
        self._transcriber = transcriber
        self._observer = observer
        self._send = send
        self._session_id = session_id
        self._queue: asyncio.Queue[Spoken | None] = asyncio.Queue(MAX_TURNS)
        self._n_unfinished = 0
        self._partial: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup, lane: Lane[Any, Any]) -> None:
        """Begin to take turns.

        Args:
            group: what all work is part of.
            lane: the session's place in the queue.
        """
        self._group, self._lane = group, lane
        group.create_task(self._finish_all())

    async def put(self, spoken: Spoken) -> None:
        """A turn has ended. Waits while too many do."""
        self.stop_partial()
        self._n_unfinished += 1
        await self._queue.put(spoken)

    async def end(self) -> None:
        """No turn will come any more."""
        await self._queue.put(None)

    def consider(self, spoken: Spoken, listener: Listener) -> None:
        """Make a partial transcript of what is being said, if it is time and nothing waits."""
        speaking = listener.speaking_seconds
        if (
            speaking - spoken.partial_seconds < PARTIAL_SECONDS
            or self._n_unfinished
            or self._transcriber.is_busy
            or (self._partial is not None and not self._partial.done())
        ):
            return
        turn = listener.running()
        if turn is not None:
            spoken.partial_seconds = speaking
            self._partial = self._group.create_task(self._hear_partial(spoken, turn))

    def stop_partial(self) -> None:
        """The whole turn is coming, or none of it is wanted."""
        if self._partial is not None:
            self._partial.cancel()

    async def _hear_partial(self, spoken: Spoken, turn: Turn) -> None:
        try:
            transcript = await self._transcribed(spoken, turn)
        except Exception:
            return  # The whole turn will tell what is wrong.
        before = spoken.agreement.partial
        settled = spoken.agreement.hear(transcript.text)
        if transcript.text != before:
            partial = {"partial": transcript.text, **tags(transcript)}
            await self._send_of(spoken, "delta", delta=settled, **partial)

    async def _finish_all(self) -> None:
        while (spoken := await self._queue.get()) is not None and spoken.turn is not None:
            record = turn_record(self._session_id, spoken.item_id)
            with observed(self._observer, record, spoken.ended):
                self._lane.owner = record
                try:
                    record.reason = await self._finish(spoken, spoken.turn, record)
                finally:
                    self._lane.owner = None
                    self._n_unfinished -= 1

    async def _finish(self, spoken: Spoken, turn: Turn, record: RequestRecord) -> str:
        """What became of a turn, as an observer is told."""
        try:
            transcript = await self._transcribed(spoken, turn)
        except Exception as error:
            known = as_speech_error(error, self._session_id)
            await self._send_of(spoken, "failed", error=error_value(known))
            return known.reason
        record.add([transcript])
        if rest := spoken.agreement.end(transcript.text):
            await self._send_of(spoken, "delta", delta=rest)
        heard = words_of(transcript.segments or ())
        await self._send_of(
            spoken,
            "completed",
            transcript=transcript.text,
            **tags(transcript),
            languages=languages(transcript),
            start=rounded(turn.start),
            end=rounded(turn.end),
            words=words(heard, turn.start),
            **({"logprobs": logprobs(heard)} if spoken.logprobs else {}),
            usage=usage(transcript),
        )
        return OK

    async def _transcribed(self, spoken: Spoken, turn: Turn) -> Transcript:
        item = Item(Waveform(turn.samples), spoken.options)
        return await self._transcriber.in_lane(item, self._lane)

    async def _send_of(self, spoken: Spoken, kind: str, **fields: Any) -> None:
        where = {"item_id": spoken.item_id, "content_index": 0}
        await self._send(f"{TRANSCRIPTION}.{kind}", **where, **fields)
