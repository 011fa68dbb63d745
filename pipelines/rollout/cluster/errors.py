"""Answers of the Kubernetes API as what a rollout does about them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from pipelines.rollout.target import Conflict, Unavailable


class ClusterError(Exception):
    """Trying again does not help; the message tells a person what to change."""


TEMPORARY = (408, 410, 429)
"""Statuses that another try may not meet, beside 5xx: timeout, expired, too many requests."""


@contextmanager
def translated(verb: str, group: str, resource: str, name: str) -> Iterator[None]:
    """Raise what a rollout understands instead of what the client raises.

    Args:
        verb: as RBAC names it, such as ``patch``.
        group, resource: the API group and the plural, such as ``inferenceservices``.
        name: ``<namespace>/<name>``.

    Raises:
        Conflict: 409.
        Unavailable: no answer, a status of ``TEMPORARY`` or 5xx.
        ClusterError: any other status.
    """
    call = f"{verb} {resource}.{group} {name}"
    try:
        yield
    except ApiException as error:
        text = f"{call}: {error.status} {error.reason}: {_message(error)}"
        if error.status == 409:
            raise Conflict(text) from error
        if error.status in TEMPORARY or error.status >= 500:
            raise Unavailable(text) from error
        if error.status == 403:
            text += f" (a Role must allow verb {verb} on {resource} in apiGroup {group})"
        raise ClusterError(text) from error
    except HTTPError as error:
        raise Unavailable(f"{call}: no answer: {error}") from error


def _message(error: ApiException) -> str:
    """What the API server's ``Status`` says, or the body as it is."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body)[:500]
