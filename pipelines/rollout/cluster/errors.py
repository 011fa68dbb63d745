"""Answers of the Kubernetes API as what a rollout does about them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from pipelines.rollout.target import Conflict, Refused, Unavailable


class ClusterError(Refused):
    """The cluster refuses, or has not what a rollout needs."""


TEMPORARY = (0, 401, 408, 410, 429)
"""Statuses that another try may not meet, beside 5xx: no TLS, a token that has been replaced, timeout,
expired, too many requests. The client reads a pod's token anew every minute."""


@contextmanager
def translated(verb: str, group: str, resource: str, name: str) -> Iterator[None]:
    """Raise what a rollout understands instead of what the client raises.

    Args:
        verb: as RBAC names it, such as ``patch``.
        group, resource: the API group and the plural, such as ``inferenceservices``.
        name: ``<namespace>/<name>``.

    Raises:
        Conflict: 409 to a write.
        Unavailable: no answer, a status of ``TEMPORARY`` or 5xx, or credentials that cannot be read.
        ClusterError: any other status.
    """
    call = f"{verb} {resource}.{group} {name}"
    try:
        yield
    except ApiException as error:
        text = f"{call}: {error.status} {error.reason}: {_message(error)}"
        if error.status == 409 and verb != "get":  # What is only read conflicts with nothing.
            raise Conflict(text) from error
        if error.status in (*TEMPORARY, 409) or error.status >= 500:
            if error.status == 401:
                text += " (see that the service account, or the kubeconfig's user, is still valid)"
            raise Unavailable(text) from error
        if error.status == 403:
            text += f" (a Role must allow verb {verb} on {resource} in apiGroup {group})"
        raise ClusterError(text) from error
    except (HTTPError, ConfigException, OSError) as error:
        raise Unavailable(f"{call}: no answer: {error}") from error


def _message(error: ApiException) -> str:
    """What the API server's ``Status`` says, or the body as it is."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body)[:500]
