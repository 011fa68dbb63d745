"""``python -m predictor.ui``"""

import os

import uvicorn

from predictor.ui.settings import Settings

GRACE_SECONDS = 5
"""For requests under way, after SIGTERM."""

MAX_MESSAGE_BYTES = 1024 * 1024
"""Of live audio: far more than a browser sends at once."""


def main() -> None:
    settings = Settings.from_environment()
    # gradio reads both when it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    from predictor.ui.app import create_app
    from predictor.ui.live import PONG_SECONDS

    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.http_port,
        log_level="warning",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_timeout=PONG_SECONDS,
        # Open tabs hold connections for events that never end.
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
