"""Users of the local service: a steady stream of requests, so that a canary has traffic to be judged by."""

import threading
from collections import Counter
from collections.abc import Sequence

import httpx

PAUSE_SECONDS = 0.2
"""Between an answer and the next request."""

TIMEOUT_SECONDS = 30.0


class Users:
    """One request after the other from a thread, while ``with`` holds.

    Args:
        url: of the service.
        clips: audio files, sent in turns.

    Attributes:
        answered: answers by status and revision, since the first that succeeded: before it nothing serves.
    """

    def __init__(self, url: str, model_name: str, clips: Sequence[bytes]) -> None:
        self.answered: Counter[tuple[int, str]] = Counter()
        self._url = f"{url}/v2/models/{model_name}/infer"
        self._clips = clips
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="users", daemon=True)

    def __enter__(self) -> "Users":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def summary(self) -> str:
        """Such as ``320 requests, 0 failed (sensevoice-00001: 200, sensevoice-00002: 120)``."""
        failed = sum(count for (status, _), count in self.answered.items() if status >= 400)
        revisions: Counter[str] = Counter()
        for (_, revision), count in self.answered.items():
            revisions[revision or "no revision"] += count
        shares = ", ".join(f"{name}: {count}" for name, count in sorted(revisions.items()))
        return f"{self.answered.total()} requests, {failed} failed ({shares or 'nobody served'})"

    def _ask(self) -> None:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            number = 0
            while not self._ended.wait(PAUSE_SECONDS):
                status, revision = self._send(client, self._clips[number % len(self._clips)])
                number += 1
                if status < 400 or self.answered:
                    self.answered[status, revision] += 1

    def _send(self, client: httpx.Client, audio: bytes) -> tuple[int, str]:
        """Status and revision; 599 where there is no answer."""
        headers = {"Inference-Header-Content-Length": "0"}
        try:
            answer = client.post(self._url, content=audio, headers=headers)
        except httpx.HTTPError:
            return 599, ""
        return answer.status_code, answer.headers.get("x-revision", "")
