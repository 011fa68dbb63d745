"""What a rollout decided and why: an event on the service, a line in the report, a line in the log."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.rollout.target import Target

logger = logging.getLogger("pipelines.rollout")


class Report:
    """
    Args:
        target: gets the events.
        clock: seconds since 1970.
        path: JSON lines are appended here as they come, so that a killed rollout's are kept.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, target: Target, clock: Callable[[], float], path: Path | None) -> None:
        self._target = target
        self._clock = clock
        self._path = path
        self.lines: list[dict[str, Any]] = []
        if path:
            path.open("a").close()  # An error is to come before anything is changed.

    def tell(self, reason: str, message: str, *, warning: bool = False, **figures: Any) -> None:
        """
        Args:
            reason: one CamelCase word.
            figures: kept in the report's line.
        """
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "reason": reason, "message": message, **figures}
        self.lines.append(line)
        self._append(json.dumps(line, ensure_ascii=False) + "\n")
        logger.log(
            logging.WARNING if warning else logging.INFO,
            "%s: %s: %s",
            self._target.name,
            reason,
            message,
        )
        self._target.record(reason, message, warning=warning)

    def _append(self, text: str) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:  # A full disk must not end a rollout halfway.
            logger.warning("%s: a line of the report was not written: %s", self._path, error)
