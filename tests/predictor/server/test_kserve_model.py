"""kserve's hooks and its data plane, around fakes."""

from typing import Any

import pytest
from kserve import Model, ModelRepository

from predictor.engine.errors import Overloaded
from predictor.server.kserve_model import SMALL_BYTES, SpeechDataPlane, SpeechModel
from predictor.server.protocol import Limits


class FullTranscriber:
    """Has no room, and no thread to spare."""

    def check_room(self) -> None:
        raise Overloaded("full")


class LargePayload:
    n_bytes = SMALL_BYTES + 1

    def parse(self, limits: Limits) -> Any:
        raise AssertionError("parsed")


async def test_a_large_request_is_refused_before_it_is_parsed() -> None:
    transcriber: Any = FullTranscriber()
    card: Any = None
    health: Any = None
    model = SpeechModel("m", card, transcriber, Limits(1000, 1), health)
    payload: Any = LargePayload()
    with pytest.raises(Overloaded):
        await model.preprocess(payload)


async def test_readiness_ends_when_draining_begins() -> None:
    model = Model("m")
    model.ready = True
    repository = ModelRepository()
    repository.update(model)
    data_plane = SpeechDataPlane(model_registry=repository)
    assert await data_plane.ready()
    assert await data_plane.model_ready("m")
    data_plane.is_draining = True
    assert not await data_plane.ready()
    assert not await data_plane.model_ready("m")
    # What comes all the same is worked on.
    assert await data_plane.get_model("m") is model
