"""Python client of the predictor: ``Client`` and ``AsyncClient``, audio in, ``Transcript`` out.

    from predictor.client import Client

    with Client("http://localhost:8080") as client:
        print(client.transcribe("meeting.mp3", language="en").text)

It speaks KServe's v2 protocol with binary data, and waits for services that start from zero.
"""

from predictor.client.async_client import AsyncClient
from predictor.client.client import Client
from predictor.client.errors import InvalidAnswer, Refused, ServiceError, Unavailable
from predictor.client.patience import Patience, Wait
from predictor.client.wire import Audio, Options, Outcome

__all__ = [
    "AsyncClient",
    "Audio",
    "Client",
    "InvalidAnswer",
    "Options",
    "Outcome",
    "Patience",
    "Refused",
    "ServiceError",
    "Unavailable",
    "Wait",
]
