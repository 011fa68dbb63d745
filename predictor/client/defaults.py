"""What both clients take where nothing is said."""

import httpx

URL = "http://localhost:8080"
MODEL_NAME = "sensevoice"

TIMEOUT_SECONDS = 600.0
"""For one answer: hours of audio on a small CPU, or a start from zero behind a gateway that holds the
connection meanwhile."""

CONNECT_SECONDS = 5.0

READY_SECONDS = 1.0
"""A service that runs says so in milliseconds."""

CONCURRENCY = 8
"""Requests of many that are under way at once: enough for the service to make batches of them."""


def timeouts(seconds: float) -> httpx.Timeout:
    """``seconds`` for an answer, less for a connection, any time for one's turn."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS), pool=None)
