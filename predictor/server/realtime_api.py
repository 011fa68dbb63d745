"""Live audio over a websocket, with the events of OpenAI's realtime transcription."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from predictor.engine.errors import InvalidOption, Overloaded, SpeechError
from predictor.server.errors import NotReady, as_speech_error, quoted
from predictor.server.observer import Observer, observed
from predictor.server.realtime_connection import Connection
from predictor.server.realtime_turns import PATH, turn_record
from predictor.server.transcriber import Transcriber

PATHS = (PATH, f"/openai{PATH}")
SUBPROTOCOL = "realtime"
"""What browsers must offer in place of headers."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest message: a minute of base64 PCM at 24 kHz. Longer ones close the connection with 1009."""

UPGRADE_REQUIRED = 426
"""Status of an answer to a request that is no websocket's."""

TRY_AGAIN_LATER, POLICY_VIOLATION = 1013, 1008
"""Codes with which a connection is refused."""


class RealtimeApi:
    """Opens sessions, as many as may be open at once.

    Args:
        transcriber: does the work.
        check_model: raises where no model has the name that a client gives.
        observer: is told of each turn, and of each connection that was refused.
        max_connections: most connections at once.
        idle_seconds: longest time without a message.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        check_model: Callable[[str], None],
        observer: Observer,
        max_connections: int,
        idle_seconds: float,
    ) -> None:
        self._transcriber = transcriber
        self._check_model = check_model
        self._observer = observer
        self._max_connections = max_connections
        self._idle_seconds = idle_seconds
        self._n_open = 0

    def add_routes(self, app: FastAPI) -> None:
        for path in PATHS:
            app.add_api_websocket_route(path, self.connect)
            app.add_api_route(path, self.upgrade, methods=["GET"], include_in_schema=False)

    async def upgrade(self) -> None:
        """What plain HTTP is told."""
        message = (
            "connection: this path takes websockets only; send the headers that upgrade to one"
        )
        raise HTTPException(UPGRADE_REQUIRED, message, {"upgrade": "websocket"})

    async def connect(self, websocket: WebSocket) -> None:
        """One client, from its first message to its last."""
        offered = websocket.scope.get("subprotocols", ())
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        connection = Connection(
            websocket, self._transcriber, self._check_model, self._observer, self._idle_seconds
        )
        try:
            self._check(websocket)
            lane = self._transcriber.lane()
        except Exception as error:
            known = as_speech_error(error, connection.id)
            with observed(self._observer, turn_record(connection.id)) as record:
                record.reason = known.reason
            await self._refuse(websocket, connection, known)
            return
        self._n_open += 1
        try:
            with lane:
                await connection.run(lane)
        finally:
            self._n_open -= 1

    def _check(self, websocket: WebSocket) -> None:
        """Raises:
        Overloaded: too many connections are open.
        InvalidOption: another kind of session is asked for.
        """
        intent = websocket.query_params.get("intent", "transcription")
        if intent != "transcription":
            raise InvalidOption(f"intent: must be transcription, not {quoted(intent)}")
        if (model := websocket.query_params.get("model")) is not None:
            self._check_model(model)
        if self._n_open >= self._max_connections:
            raise Overloaded(
                f"{self._n_open} live connections are open, the limit is "
                f"{self._max_connections}; come back later"
            )

    async def _refuse(
        self, websocket: WebSocket, connection: Connection, error: SpeechError
    ) -> None:
        busy = isinstance(error, Overloaded | NotReady)
        try:
            await connection.send_error(error)
            await websocket.close(TRY_AGAIN_LATER if busy else POLICY_VIOLATION, error.reason)
        except WebSocketDisconnect:
            return
