"""Logging of the server: kserve's own set-up in one form of line, as text or as JSON, without its stack
trace for every wrong request and without uvicorn's access log."""

import copy
import json
import logging
import logging.config
import time
import traceback
import warnings
from datetime import UTC, datetime
from typing import Any, Literal

from predictor.server.sdk import KSERVE_LOG_CONFIG

TRACE_LOGGERS = ("kserve.trace",)
"""They write lines of timings for each request."""

READY = "kserve.ready"
"""This logger writes to standard output, whatever the level: people and scripts wait for what it says."""

SERVICE = "sensevoice-predictor"
"""The service's name in logs and traces."""

ECS_VERSION = "8.11.0"

EXPORT_ERROR_SECONDS = 60
"""At most one line about traces that cannot be exported in so many seconds."""


class EcsFormatter(logging.Formatter):
    """A line of JSON with the field names of the Elastic Common Schema
    (https://www.elastic.co/docs/reference/ecs). A record's attribute ``ecs`` holds further fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "@timestamp": at.replace("+00:00", "Z"),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "ecs.version": ECS_VERSION,
            "service.name": SERVICE,
            "log.logger": record.name,
            "process.pid": record.process,
            "process.thread.name": record.threadName,
            **getattr(record, "ecs", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, trace = record.exc_info
            fields |= {
                "error.type": kind.__name__,
                "error.message": str(error),
                "error.stack_trace": "".join(traceback.format_exception(kind, error, trace)),
            }
        # Escaped to ASCII: right in whatever encoding standard error has.
        return json.dumps(fields, default=str)


class _WithoutClientErrors(logging.Filter):
    """kserve logs each exception that it answers, an unknown model too, with a stack trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            module = type(record.exc_info[1]).__module__
            if module.startswith(("kserve.", "predictor.")):
                # On one line: it may quote a path, which may hold any character, percent-encoded.
                record.msg, record.args = "%s", (" ".join(str(record.exc_info[1]).split()),)
                record.exc_info = record.exc_text = None
                record.levelno, record.levelname = logging.INFO, "INFO"
        return True


class _WithoutQueries(logging.Filter):
    """uvicorn logs each websocket's URL. Browsers can set no headers on one: keys are in its query."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "WebSocket" in str(record.msg) and isinstance(record.args, tuple):
            record.args = tuple(
                each.partition("?")[0] if isinstance(each, str) else each for each in record.args
            )
        return True


class _Rarely(logging.Filter):
    """A collector that is away is told with every batch of spans, and each time it is tried again."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._silent_until:
            return False
        self._silent_until = now + EXPORT_ERROR_SECONDS
        return True


def configure(level: str, form: Literal["text", "json"] = "text") -> None:
    """Set up all logging of the process.

    Args:
        level: least severe level to log, e.g. ``info``. The access log has a setting of its own.
        form: of the lines.
    """
    config = copy.deepcopy(KSERVE_LOG_CONFIG)
    config["formatters"]["ready"] = {"format": "%(message)s"}
    if form == "json":
        config["formatters"] = {name: {"()": EcsFormatter} for name in config["formatters"]}
    config["filters"] = {"rarely": {"()": _Rarely}}
    config["handlers"] |= {
        "ready": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "ready",
        },
        "opentelemetry": {**config["handlers"]["kserve"], "filters": ["rarely"]},
    }
    config["loggers"] |= {
        READY: {"handlers": ["ready"], "level": "INFO", "propagate": False},
        "kserve.access": {"level": "INFO"},
        "opentelemetry": {"handlers": ["opentelemetry"], "level": "WARNING", "propagate": False},
        # Without a handler uvicorn does not even make its line; ours says more.
        "uvicorn.access": {"handlers": [], "propagate": False},
    }
    config["root"] = {"handlers": ["kserve"], "level": "WARNING"}
    logging.config.dictConfig(config)
    logging.captureWarnings(True)
    for name in ("kserve", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())
    for name in TRACE_LOGGERS:
        logging.getLogger(name).setLevel("DEBUG" if level == "debug" else "WARNING")
    logging.getLogger("kserve").addFilter(_WithoutClientErrors())
    logging.getLogger("uvicorn.error").addFilter(_WithoutQueries())
    # kserve's own choice of response class; nothing a user of this server could change.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
