"""A local service as the target of a rollout, and as the meter of its traffic."""

import logging
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter

from pipelines.rollout.local.address import read_address
from pipelines.rollout.local.errors import LocalError
from pipelines.rollout.target import Conflict, Observed, ServedModel, Traffic, Unavailable

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Seconds until the daemon counts as down."""

OBSERVED, TRAFFIC = TypeAdapter(Observed), TypeAdapter(Traffic)

T = TypeVar("T")


def connect(directory: Path) -> "LocalTarget":
    """The service that a daemon keeps in ``directory``.

    Raises:
        Unavailable: no daemon keeps it now.
        LocalError: something else answers there.
    """
    target = LocalTarget(directory)
    target.observe()
    return target


class LocalTarget:
    """Implements ``Target`` and ``TrafficMeter`` of ``pipelines.rollout.target``; beside their errors,
    calls raise ``LocalError``.

    A daemon that is started again is found again: its address is read for every call.

    Attributes:
        directory: the service's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.name = f"local/{self.directory.name}"
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)

    def observe(self) -> Observed:
        """The service now.

        Raises:
            Unavailable: no daemon answers.
            LocalError: refused.
        """
        return self._ask(OBSERVED, "GET", "/service")

    def write(
        self, seen: Observed, *, state: str, percent: int | None, model: ServedModel | None = None
    ) -> Observed:
        """Write all of it in one request, valid for ``seen.version`` alone.

        Raises:
            Conflict: the service has changed since ``seen``.
            Unavailable: no answer; the change may have been made.
            LocalError: refused, such as a ``storage_uri`` that is not an absolute path.
        """
        change: dict[str, Any] = {"version": seen.version, "state": state, "percent": percent}
        if model:
            served = {"storage_uri": model.storage_uri, "digest": model.digest}
            change["model"] = {**served, "image": model.image}
        return self._ask(OBSERVED, "PATCH", "/service", json=change)

    def record(self, reason: str, message: str, *, warning: bool = False) -> None:
        """A line in the directory's ``events.jsonl``; a failure to write it is logged."""
        event = {"reason": reason, "message": message, "warning": warning}
        try:
            self._send("POST", "/events", json=event)
        except Exception as error:  # The rollout goes on without its events.
            logger.warning("event %s on %s was not written: %s", reason, self.name, error)

    def measure(self, revision: str, seconds: float) -> Traffic:
        """The last ``seconds`` of a revision, an hour at most, as the proxy counted it.

        Raises:
            Unavailable: no daemon answers.
            LocalError: refused.
        """
        window: dict[str, str | float] = {"revision": revision, "seconds": seconds}
        return self._ask(TRAFFIC, "GET", "/traffic", params=window)

    def close(self) -> None:
        self._client.close()

    def _ask(self, kind: TypeAdapter[T], method: str, path: str, **request: Any) -> T:
        answer = self._send(method, path, **request)
        try:
            return kind.validate_json(answer.content)
        except ValueError as error:
            raise LocalError(f"{answer.url} answers, but not as a service's daemon does") from error

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        call = f"{method} {path} of {self.name}"
        try:
            address = read_address(self.directory)
        except FileNotFoundError as error:
            raise Unavailable(
                f"{call}: no daemon keeps {self.directory}; start it with `python -m "
                f"pipelines.rollout.local {self.directory}`"
            ) from error
        except (OSError, ValueError) as error:
            raise LocalError(f"{call}: {error}") from error
        headers = {"Authorization": f"Bearer {address.token}"}
        try:
            answer = self._client.request(
                method, address.control + path, headers=headers, **request
            )
        except httpx.TransportError as error:
            raise Unavailable(f"{call}: {type(error).__name__}: {error}") from error
        if answer.is_success:
            return answer
        text = f"{call}: {answer.status_code}: {_message(answer)}"
        if answer.status_code == 409:
            raise Conflict(text)
        if answer.status_code >= 500:
            raise Unavailable(text)
        raise LocalError(text)


def _message(answer: httpx.Response) -> str:
    """What the daemon says, or the body as it is."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]
