"""The model that kserve's server serves, and the data plane that describes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from predictor.engine.errors import InvalidRequest
from predictor.engine.types import Segment, StageTimes, Transcript
from predictor.server.errors import UnknownModel, quoted
from predictor.server.health import Health
from predictor.server.json_body import JsonBody
from predictor.server.protocol import Call, Item, Limits, Outcome, Payload, parse_v1
from predictor.server.protocol_v2 import OUTPUTS
from predictor.server.sdk import (
    DataPlane,
    InferResponse,
    Model,
    ModelNotReady,
    ModelRepositoryExtension,
)
from predictor.server.transcriber import SHORT_SECONDS, Transcriber

PLATFORM = "pytorch_sensevoice"

ALIVE = "alive"
"""What kserve takes for a server that lives."""

SMALL_BYTES = 256 * 1024
"""Requests up to this size are parsed in the event loop, in less than a millisecond: a trip to another
thread costs as much. Ten seconds of base64 WAV fit."""

SERVER_TIMING = "server-timing"
"""Header of REST answers and trailing metadata of gRPC ones (https://www.w3.org/TR/server-timing):
milliseconds the request spent in each stage, summed over its items."""

INPUT_TYPES = (
    {"name": "audio", "datatype": "BYTES", "shape": [-1]},
    {"name": "waveform", "datatype": "FP32", "shape": [-1, -1]},
)
"""A request has one of the two. ``audio`` may also be one file as UINT8 [n_bytes]."""

OUTPUT_TYPES = tuple({"name": name, "datatype": "BYTES", "shape": [-1]} for name in OUTPUTS)


class ModelCard(Protocol):
    """What the server tells about the model; ``predictor.engine.transcribe.ModelInfo`` is one."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def notice(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Answered:
    """A request with the outcomes of its items, in order, and the audio they were made of."""

    call: Call
    outcomes: Sequence[Outcome]
    audio_seconds: float


def server_timing(times: StageTimes) -> str:
    """``decode;dur=12.9, queue;dur=0.2, ...``, in milliseconds."""
    stages = {
        "decode": times.decode + times.segment,
        "queue": times.queue,
        "batch": times.batch,
        "inference": times.features + times.encoder + times.decoding,
    }
    return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in stages.items())


class SpeechModel(Model):  # type: ignore[misc]  # kserve is untyped
    """kserve's three hooks: bytes → call → outcomes → answer.

    All state of a request is in the values passed on: one object serves all requests at once. Every
    hook is a coroutine, because kserve runs any other on the event loop itself.

    Args:
        name: of the model in URLs.
        card: version and digest of the loaded model.
        transcriber: does the work.
        limits: of one request.
        health: of what does the work.
    """

    def __init__(
        self,
        name: str,
        card: ModelCard,
        transcriber: Transcriber,
        limits: Limits,
        health: Health,
    ) -> None:
        self._health = health
        super().__init__(name, return_response_headers=True)
        self.card = card
        self.transcriber = transcriber
        self._limits = limits

    @property
    def ready(self) -> bool:
        """Whether the model is loaded, and what does its work is at it."""
        return self._loaded and self._health.is_good

    @ready.setter
    def ready(self, loaded: bool) -> None:
        self._loaded = loaded

    @property
    def live(self) -> bool:
        """Whether waiting may help: false where only a restart does."""
        return self._health.is_good

    async def preprocess(
        self, payload: Payload | dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> Call:
        """A body as it came off the wire, or a v1 request as a dictionary → its call."""
        if isinstance(payload, dict):
            return parse_v1(JsonBody(payload), self._limits)
        if not hasattr(payload, "parse"):
            raise InvalidRequest("only predict (v1) and infer (v2) are served")
        if payload.n_bytes <= SMALL_BYTES:
            return payload.parse(self._limits)
        # The threads may have much to do: a request that cannot be let in is not to wait for them.
        self.transcriber.check_room()
        return await self.transcriber.in_thread(payload.parse, self._limits)

    async def predict(
        self, payload: Call, headers: Mapping[str, str], response_headers: dict[str, str]
    ) -> Answered:
        request_id = headers.get("x-request-id", "-")
        outcomes = await self.transcriber.transcribe(payload.items, request_id)
        transcripts = [outcome for outcome in outcomes if isinstance(outcome, Transcript)]
        times = sum((transcript.times for transcript in transcripts), StageTimes())
        audio_seconds = sum(transcript.duration for transcript in transcripts)
        response_headers[SERVER_TIMING] = server_timing(times)
        return Answered(payload, outcomes, audio_seconds)

    async def postprocess(
        self, result: Answered, headers: Mapping[str, str], response_headers: dict[str, str]
    ) -> dict[str, Any] | InferResponse:
        if result.audio_seconds <= SHORT_SECONDS:
            answer = result.call.render(result.outcomes)
        else:
            answer = await self.transcriber.in_thread(result.call.render, result.outcomes)
        if isinstance(answer, InferResponse):
            answer.model_name, answer.model_version = self.name, self.card.version
        return answer

    async def stream(self, item: Item, on_segment: Callable[[Segment], object]) -> Transcript:
        """As :meth:`predictor.server.transcriber.Transcriber.stream`, of a model that is ready."""
        if not self.ready:
            raise ModelNotReady(self.name)
        return await self.transcriber.stream(item, on_segment)

    def validate(self, payload: Call) -> Call:
        """Parsing has validated already; kserve's own check looks for a dictionary."""
        return payload

    def load(self) -> bool:
        """kserve calls this on a request to a model that is not ready: loading is ``serve``'s."""
        if not self.ready:
            raise ModelNotReady(self.name)
        return True

    def start(self) -> None:
        """kserve calls this on registering, and its own version declares any model ready."""

    def get_input_types(self) -> list[dict[str, Any]]:
        return list(INPUT_TYPES)

    def get_output_types(self) -> list[dict[str, Any]]:
        return list(OUTPUT_TYPES)


class SpeechDataPlane(DataPlane):  # type: ignore[misc]
    """kserve's data plane, with the model's version, its platform and the extensions we serve.

    Attributes:
        is_draining: the server is stopping: what comes is still answered, but no more is asked for.
    """

    is_draining = False

    def metadata(self) -> dict[str, Any]:
        extensions = ["binary_tensor_data"]
        return {**super().metadata(), "extensions": extensions}

    async def live(self) -> dict[str, str]:
        """kserve's own says so whatever the server does. Anything but alive is answered 503."""
        models = self.model_registry.get_models().values()
        return {"status": ALIVE if all(model.live for model in models) else "stuck"}

    def get_model_from_registry(self, name: str) -> Any:
        """Raises:
        UnknownModel: no model has this name. kserve's own error would be answered in full length.
        """
        model = self.model_registry.get_model(name)
        if model is None:
            raise UnknownModel(f"Model with name {name} does not exist.")
        return model

    def check_version(self, model_name: str, version: str) -> None:
        """Raises:
        UnknownModel: no such model, or no such version of it.
        """
        if version != self.get_model_from_registry(model_name).card.version:
            raise UnknownModel(f"Model with name {model_name} has no version {quoted(version)}.")

    async def ready(self) -> bool:
        """kserve's own is true whatever the model does."""
        models = self.model_registry.get_models()
        return bool(models) and all([await self.model_ready(name) for name in models])

    async def model_ready(
        self, model_name: str, disable_predictor_health_check: bool = False
    ) -> bool:
        """What probes are told, and with them whoever routes requests."""
        ready: bool = await super().model_ready(model_name, disable_predictor_health_check)
        return ready and not self.is_draining

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        described: dict[str, Any] = await super().model_metadata(model_name)
        model = self.get_model_from_registry(model_name)
        return {**described, "versions": [model.card.version], "platform": PLATFORM}

    def model_properties(self, model_name: str) -> dict[str, str]:
        """What the protocol has no field for: the digest, and what every user must be told."""
        card = self.get_model_from_registry(model_name).card
        properties = {"name": card.name, "digest": card.digest, "notice": card.notice}
        return {key: value for key, value in properties.items() if value}


class FixedRepository(ModelRepositoryExtension):  # type: ignore[misc]
    """Refuses to load and unload: kserve's own lets any client take the model down until the next
    start, and which model a container serves is for its deployment to say."""

    async def load(self, model_name: str) -> None:
        raise InvalidRequest("this server's model is fixed when it starts")

    async def unload(self, model_name: str) -> None:
        raise InvalidRequest("this server's model is fixed when it starts")
