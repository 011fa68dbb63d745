"""Asking the MLflow server: how long is waited for it, and what its errors mean."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from requests import HTTPError, RequestException

from pipelines.rollout.target import Refused, Unavailable

TRANSFER_SECONDS = 600
"""Longest wait for an answer while files are sent: the server gives it once it has stored them, and the
weights have a gigabyte."""

MAX_MESSAGE = 500
"""Characters of MLflow's own words: a proxy in between may answer with a whole page."""

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"

_AWAY = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
}
"""Codes of answers 429 and 5xx. No answer at all is an ``INTERNAL_ERROR`` to MLflow's client."""

_REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}
"""Codes of answers 401 and 403."""


class RegistryError(Refused):
    """MLflow refuses, or does not have what was asked for."""


def public(uri: str) -> str:
    """A URI without the user name and password that it may hold."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def asking(uri: str) -> Iterator[None]:
    """Translate the errors of MLflow's client.

    Args:
        uri: of the MLflow server.

    Raises:
        Unavailable: it does not answer, or answers 429 or 5xx.
        RegistryError: any other error of MLflow's.
    """
    try:
        yield
    except MlflowException as error:
        raise _translated(uri, error.error_code, error) from error
    except HTTPError as error:
        # Of artifacts; 429 and 5xx have become an MlflowException before.
        refused = error.response.status_code in (401, 403)
        code = "PERMISSION_DENIED" if refused else "BAD_REQUEST"
        raise _translated(uri, code, error) from error
    except RequestException as error:
        raise _translated(uri, "INTERNAL_ERROR", error) from error


@contextmanager
def transfer() -> Iterator[None]:
    """Be patient with files."""
    usual = os.environ[_TIMEOUT]
    os.environ[_TIMEOUT] = str(max(int(usual), TRANSFER_SECONDS))
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = usual


def _translated(uri: str, code: str, error: Exception) -> Exception:
    message = str(error).replace(uri.rstrip("/"), public(uri).rstrip("/"))[:MAX_MESSAGE]
    if code in _AWAY:
        return Unavailable(f"MLflow at {public(uri)} does not answer: {message}")
    if code in _REFUSED:
        return RegistryError(
            f"MLflow at {public(uri)} refuses: {message}. MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD name who asks"
        )
    return RegistryError(f"MLflow at {public(uri)}: {message}")
