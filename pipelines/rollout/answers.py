"""What one revision says of itself, and of audio: KServe's v2 protocol over HTTP."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from pipelines.rollout.target import Revision
from predictor.client import InvalidAnswer
from predictor.client.wire import message, transcript

TAGS = ("language", "emotion", "event")


class BadAnswer(Exception):
    """No answer, an error, or one by another model; says which."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered.

    Attributes:
        digest: sha256 of the model's files (header ``x-model-digest``); empty where it does not say.
        revision: header ``x-revision``; empty where the predictor knows none.
    """

    digest: str
    revision: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is to answer.

    Attributes:
        digest: of the model that the revision is to answer with; empty: any.
    """

    revision: Revision
    digest: str

    def stranger(self, found: Identity) -> str:
        """Why an answer is not its own; empty where it is."""
        name = self.revision.name
        if self.digest and found.digest != self.digest:
            return f"{name} answers with model {found.digest[:12] or 'unknown'}, not {self.digest[:12]}"
        if found.revision not in ("", name):
            return f"answers for {name} come from revision {found.revision}"
        return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A transcript.

    Attributes:
        text: without inverse text normalisation, to be compared with labels.
        tags: kind → label.
        seconds: until the whole answer was there.
    """

    identity: Identity
    text: str
    tags: dict[str, str]
    seconds: float


class Answers:
    """Asks revisions, each by its own URL.

    Args:
        model_name: the model's name in URLs.
        timeout: seconds for one answer.
    """

    def __init__(self, model_name: str, timeout: float) -> None:
        self._path = f"/v2/models/{model_name}"
        self._client = httpx.Client(timeout=timeout, trust_env=False)

    def identity(self, url: str) -> Identity:
        """Raises: BadAnswer."""
        return _identity(self._send("GET", url + self._path))

    def transcribe(self, url: str, audio: bytes) -> Answer:
        """One audio file as a binary tensor.

        Raises:
            BadAnswer: see there.
        """
        sent = message(audio, {"use_itn": False})
        started = time.perf_counter()
        response = self._send(
            "POST", f"{url}{self._path}/infer", content=sent.content, headers=sent.headers
        )
        seconds = time.perf_counter() - started
        try:
            found = transcript(response)
        except InvalidAnswer as error:
            raise BadAnswer(f"{url}: not an answer of the v2 protocol") from error
        tags = {kind: getattr(found, kind).label for kind in TAGS}
        return Answer(_identity(response), found.text, tags, seconds)

    def close(self) -> None:
        self._client.close()

    def _send(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = self._client.request(method, url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise BadAnswer(f"{url}: {type(error).__name__}: {error}") from error
        if not response.is_success:
            raise BadAnswer(f"{url}: status {response.status_code}")
        return response


def _identity(response: httpx.Response) -> Identity:
    headers = response.headers
    return Identity(headers.get("x-model-digest", ""), headers.get("x-revision", ""))
