"""Logging of the server: kserve's own set-up, without its stack trace for every wrong request."""

import logging
import logging.config
import warnings

from predictor.server.sdk import KSERVE_LOG_CONFIG

TRACE_LOGGERS = ("kserve.trace",)
"""They write lines of timings for each request."""


class _WithoutClientErrors(logging.Filter):
    """kserve logs each exception that it answers, an unknown model too, with a stack trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            module = type(record.exc_info[1]).__module__
            if module.startswith(("kserve.", "predictor.")):
                record.msg, record.args = "%s", (record.exc_info[1],)
                record.exc_info = record.exc_text = None
                record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def configure(level: str) -> None:
    """Set up all logging of the process.

    Args:
        level: least severe level to log, e.g. ``info``.
    """
    logging.config.dictConfig(KSERVE_LOG_CONFIG)
    for name in ("kserve", "uvicorn", "uvicorn.access"):
        logging.getLogger(name).setLevel(level.upper())
    for name in TRACE_LOGGERS:
        logging.getLogger(name).setLevel("DEBUG" if level == "debug" else "WARNING")
    logging.getLogger("kserve").addFilter(_WithoutClientErrors())
    # kserve's own choice of response class; nothing a user of this server could change.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
