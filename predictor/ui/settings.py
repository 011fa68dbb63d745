"""Everything that can be set about the page. Variables have the prefix ``SENSEVOICE_UI_``.

No field may be called ``port``, ``service_host`` or ``service_port``: Kubernetes gives every pod variables
of such names for a Service called ``sensevoice-ui``.
"""

import sys
from typing import Annotated

from pydantic import AnyHttpUrl, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from predictor.client import defaults

ENV_PREFIX = "SENSEVOICE_UI_"


class Settings(BaseSettings):
    """A page in the browser for a service that runs elsewhere."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
    )

    service_url: AnyHttpUrl = AnyHttpUrl(defaults.URL)
    """Address of the service, as this process reaches it."""

    model_name: str = defaults.MODEL_NAME
    """Name of the model in the service's URLs."""

    host: str = "0.0.0.0"  # noqa: S104  # phones on the same network are users too
    """Address to listen on. Browsers open the microphone only for https and for localhost."""

    http_port: Annotated[int, Field(ge=1, le=65535)] = 6006
    """Port of the page."""

    start_seconds: Annotated[float, Field(gt=0)] = 20
    """How long the service takes to start from zero, as told to users until a start was observed."""

    patience_seconds: Annotated[float, Field(ge=0)] = 180
    """How long a service that is starting or overloaded is asked again."""

    timeout_seconds: Annotated[float, Field(gt=0)] = defaults.TIMEOUT_SECONDS
    """Longest time for one answer."""

    max_audio_bytes: Annotated[int, Field(ge=1024)] = 100 * 1024 * 1024
    """Largest file taken, in bytes: what the service takes."""

    keep_seconds: Annotated[int, Field(ge=60)] = 3600
    """How long an uploaded file stays on this machine's disk."""

    @property
    def url(self) -> str:
        """``service_url`` without a slash at its end."""
        return str(self.service_url).rstrip("/")

    @classmethod
    def from_environment(cls) -> "Settings":
        """Raises:
        SystemExit: 2, after one line for each variable that is out of range.
        """
        try:
            return cls()
        except ValidationError as error:
            for detail in error.errors():
                name = ENV_PREFIX + ".".join(map(str, detail["loc"])).upper()
                sys.stderr.write(f"{name}: {detail['msg']}\n")
            raise SystemExit(2) from None
