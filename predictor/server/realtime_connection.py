"""One live session: what comes in, and what is heard in it.

The reader takes one message after the other, and the next only when the last is dealt with: a client that
sends faster than the server hears is held up by its socket.
"""

import asyncio
import binascii
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from predictor.engine.errors import InvalidAudio, InvalidRequest, SpeechError
from predictor.engine.live import Listener, Started, Turn
from predictor.engine.packets import PacketDecoder
from predictor.server.draining import GOING_AWAY, SERVICE_RESTART
from predictor.server.errors import as_speech_error, quoted
from predictor.server.lane import Lane
from predictor.server.observer import Observer
from predictor.server.openai_error import error_value
from predictor.server.packet_decoding import PacketDecoding
from predictor.server.realtime_session import Session, from_old
from predictor.server.realtime_turns import Spoken, Turns
from predictor.server.transcriber import Transcriber

NORMAL = 1000
"""Code with which an idle connection is closed."""

BUFFER = "input_audio_buffer"

MAX_EVENT_CHARACTERS = 64 * 1024
"""Longest event that holds no audio: a prompt is the longest there is."""

MAX_ID_CHARACTERS = 512
"""Longest ``event_id`` that is told back; OpenAI's own limit."""


class Connection:
    """Serves one websocket that has been accepted.

    Args:
        websocket: of the client.
        transcriber: does the work.
        check_model: raises where no model has the name that the client gives.
        observer: is told of each turn.
        idle_seconds: longest time without a message.
    """

    def __init__(
        self,
        websocket: WebSocket,
        transcriber: Transcriber,
        check_model: Callable[[str], None],
        observer: Observer,
        idle_seconds: float,
    ) -> None:
        self.id = _new_id("sess")
        self._websocket = websocket
        self._transcriber = transcriber
        self._check_model = check_model
        self._idle_seconds = idle_seconds
        self._session = Session()
        self._listener: Listener | None = None
        self._decoding: PacketDecoding | None = None
        self._heard_seconds = 0.0
        self._spoken = self._new_turn()
        self._last_id: str | None = None
        self._turns = Turns(transcriber, observer, self._send, self.id)
        self._handlers = {
            "session.update": self._on_update,
            "transcription_session.update": self._on_update,
            f"{BUFFER}.append": self._on_append,
            f"{BUFFER}.commit": self._on_commit,
            f"{BUFFER}.clear": self._on_clear,
        }

    async def run(self, lane: Lane[Any, Any]) -> None:
        """Until the client leaves, or is told to: all that was said has been answered then."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._send("session.created", session=self._described())
                self._turns.start(group, lane)
                code = await self._listen()
                await self._commit()
                await self._turns.end()
            await self._websocket.close(code)
        except* WebSocketDisconnect:
            pass
        finally:
            self._end_decoding()
            # The handlers refer to this object: what is large must not wait for the garbage collector.
            self._listener = None

    async def send_error(self, error: SpeechError, client_event: str | None = None) -> None:
        """An error that leaves the session open, unless the caller closes it."""
        await self._send("error", error={**error_value(error), "event_id": client_event})

    async def _listen(self) -> int:
        """The code to close with. Raises WebSocketDisconnect when the client has left."""
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await self._websocket.receive()
            except TimeoutError:
                idle = f"session: no message for {self._idle_seconds:g} seconds, which is the limit"
                await self.send_error(InvalidRequest(idle))
                return NORMAL
            if message["type"] == "websocket.disconnect":
                if message.get("code") == SERVICE_RESTART:
                    return GOING_AWAY
                raise WebSocketDisconnect
            event: Mapping[str, Any] = {}
            try:
                if message.get("bytes") is not None:
                    await self._hear(message["bytes"])
                    continue
                event = _parsed(message["text"])
                _check_size(event, len(message["text"]))
                handler = self._handlers.get(str(event.get("type")))
                if handler is None:
                    known = ", ".join(self._handlers)
                    kind = quoted(event.get("type"))
                    raise InvalidRequest(f"type: {kind} is not known; known: {known}")
                await handler(event)
            except WebSocketDisconnect:
                raise
            except Exception as error:
                known_error = as_speech_error(error, self.id)
                await self.send_error(known_error, _event_id(event))

    async def _on_update(self, event: Mapping[str, Any]) -> None:
        update = event.get("session")
        if not isinstance(update, dict):
            raise InvalidRequest("session: must be a JSON object")
        old = event["type"] == "transcription_session.update"
        session = self._session.updated(from_old(update) if old else update)
        if (model := session.audio.input.transcription.model) is not None:
            self._check_model(model)
        before, after = self._session.audio.input, session.audio.input
        if (before.format, before.turn_detection) != (after.format, after.turn_detection):
            await self._commit()
            if self._listener is not None:
                self._heard_seconds = self._listener.now
                self._listener = None
                self._end_decoding()
        self._session = session
        kind = str(event["type"]).replace(".update", ".updated")
        await self._send(kind, session=self._described())

    async def _on_append(self, event: Mapping[str, Any]) -> None:
        audio = event.get("audio")
        if not isinstance(audio, str):
            raise InvalidRequest("audio: missing; give base64 of the session's format")
        try:
            data = binascii.a2b_base64(audio, strict_mode=True)
        except ValueError:
            raise InvalidAudio(
                "audio: not valid base64 (standard alphabet with padding, no line breaks)"
            ) from None
        await self._hear(data)

    async def _on_commit(self, _: Mapping[str, Any]) -> None:
        if not await self._commit():
            raise InvalidRequest(f"{BUFFER}: nothing to commit; nobody is speaking")

    async def _on_clear(self, _: Mapping[str, Any]) -> None:
        if self._listener is not None:
            self._listener.clear()
        self._turns.stop_partial()
        await self._send(f"{BUFFER}.cleared")

    async def _hear(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:
            audio = self._session.audio.input
            stream = audio.format.type, audio.format.rate
            decoder: PacketDecoder | PacketDecoding
            if audio.format.type == "audio/pcm":
                decoder = PacketDecoder(*stream)
            else:
                decoder = self._decoding = self._transcriber.packet_decoding(*stream)
            # The first time ever it takes seconds: the detector's libraries are loaded.
            listener = self._listener = await self._transcriber.in_thread(
                Listener, decoder, self._session.detection, self._heard_seconds
            )
        for piece in listener.pieces(data):
            if self._decoding is not None:
                await self._decoding.ready(piece)
            for heard in await self._transcriber.in_thread(listener.hear, piece):
                await self._on_heard(heard, self._session.detection is not None)
            self._turns.consider(self._spoken, listener)

    async def _on_heard(self, heard: Started | Turn, tell: bool) -> None:
        if isinstance(heard, Started):
            self._spoken = self._new_turn()
            if tell:
                at, item_id = round(1000 * heard.at), self._spoken.item_id
                await self._send(f"{BUFFER}.speech_started", audio_start_ms=at, item_id=item_id)
            return
        spoken = self._spoken
        spoken.turn, spoken.ended = heard, time.perf_counter()
        if tell:
            at, item_id = round(1000 * heard.end), spoken.item_id
            await self._send(f"{BUFFER}.speech_stopped", audio_end_ms=at, item_id=item_id)
        ids = {"item_id": spoken.item_id, "previous_item_id": self._last_id}
        await self._send(f"{BUFFER}.committed", **ids)
        self._last_id = spoken.item_id
        await self._turns.put(spoken)

    def _end_decoding(self) -> None:
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None

    async def _commit(self) -> bool:
        """End the turn that is going on; whether there was one."""
        turns = self._listener.commit() if self._listener is not None else []
        for heard in turns:
            await self._on_heard(heard, tell=False)
        return bool(turns)

    async def _send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": _new_id("event"), **fields}
        await self._websocket.send_text(orjson.dumps(event).decode())

    def _described(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "realtime.transcription_session",
            **self._session.to_dict(),
        }

    def _new_turn(self) -> Spoken:
        return Spoken(_new_id("item"), self._session.options(), self._session.logprobs)


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        event = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"event: not valid JSON: {error.msg}") from None
    if not isinstance(event, dict):
        raise InvalidRequest("event: must be a JSON object")
    return event


def _check_size(event: Mapping[str, Any], n_characters: int) -> None:
    """Raises:
    InvalidRequest: an event without audio is so long that checking it would hold up the server.
    """
    if n_characters > MAX_EVENT_CHARACTERS and event.get("type") != f"{BUFFER}.append":
        raise InvalidRequest(
            f"event: {n_characters} characters, the limit of one without audio is "
            f"{MAX_EVENT_CHARACTERS}"
        )


def _event_id(event: Mapping[str, Any]) -> str | None:
    """The client's own name of its event, where it is one."""
    given = event.get("event_id")
    return given if isinstance(given, str) and len(given) <= MAX_ID_CHARACTERS else None


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
