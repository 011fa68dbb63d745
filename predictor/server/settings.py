"""Everything that can be set about the server, in one frozen value.

A command-line flag wins over an environment variable, which wins over the default. Flags are named as
the fields (``--http_port=8080``, KServe's own spelling), variables with the prefix ``SENSEVOICE_``.
No field may be called ``port`` or ``service_*``: Kubernetes gives every pod variables of such names
for a Service called ``sensevoice``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict

from predictor.engine.cpu import available_cpus
from predictor.server.allowlist import Allowlist

ENV_PREFIX = "SENSEVOICE_"

MOUNTED_MODEL = Path("/mnt/models")
"""Where KServe puts the model of an InferenceService's ``storageUri``."""

EMBEDDED_MODEL = Path(__file__).resolve().parent.parent / "demo_model"

MIB = 1024 * 1024


def default_model_dir() -> Path:
    return MOUNTED_MODEL if MOUNTED_MODEL.is_dir() else EMBEDDED_MODEL


def _hosts(value: object) -> object:
    """``a, b`` (a variable or a flag) → ("a", "b"); a flag may also be given more than once."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return value
    return tuple(name.strip().lower() for part in parts for name in str(part).split(",") if name)


def _allowable(value: tuple[str, ...]) -> tuple[str, ...]:
    Allowlist(value)
    return value


def _directory(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError(f"{value} is not a directory")
    return value


Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Serve a prepared model directory over KServe's REST v1, REST v2 and gRPC v2 protocols."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        cli_prog_name="python -m predictor serve",
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    model_dir: Annotated[Path, AfterValidator(_directory)] = Field(
        default_factory=default_model_dir
    )
    """Prepared model directory. Default: /mnt/models where it exists, else the embedded model."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "sensevoice"
    """Name of the model in URLs and gRPC requests."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Where the network runs: auto (a GPU if there is one), cpu, cuda or cuda:N."""

    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Numbers the network computes in: auto (int8 on a CPU with AVX2, bf16 on a GPU), or one."""

    http_port: Port = 8080
    """Port of REST v1 and v2."""

    grpc_port: Port = 8081
    """Port of gRPC v2."""

    enable_docs: bool = False
    """Serve a page with the OpenAPI document at /docs."""

    max_audio_seconds: Annotated[float, Field(gt=0)] = 4 * 3600
    """Longest audio taken, in seconds."""

    max_audio_bytes: Annotated[int, Field(ge=1024)] = 100 * MIB
    """Largest audio file taken, in bytes; limits of request bodies and gRPC messages follow it."""

    max_request_items: Annotated[int, Field(ge=1)] = 128
    """Most audio files in one request."""

    max_pending_bytes: Annotated[int, Field(ge=1024)] = 1024 * MIB
    """Most bytes of request bodies and fetched files held at once, over all requests; beyond it answers are
    429."""

    max_batch_clips: Annotated[int, Field(ge=1)] = 64
    """Most clips (stretches of up to 30 seconds) in one pass of the network, however short: what a clip
    costs beside its length is bounded here."""

    max_batch_seconds: Annotated[float, Field(gt=0)] | None = None
    """Most audio in one pass of the network, in seconds, padding counted. Default: 600 on a GPU, which
    wants large batches, and 30 on a CPU, where more would only make short requests wait for long ones."""

    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2
    """Longest time that a pass with room in it waits for audio that is being decoded, in milliseconds;
    a request that comes alone never waits."""

    max_queue_seconds: Annotated[float, Field(gt=0)] = 600
    """Audio that may wait for the network, in seconds; beyond it new requests are answered 429. What is
    being decoded counts, by a guess from its bytes."""

    decode_threads: Annotated[int, Field(ge=1)] = Field(
        default_factory=lambda: max(1, available_cpus() // 2)
    )
    """Threads that take decoded audio and segment it. Default: half of the CPUs this container may use: it
    is a fraction of the network's work, and a flood of it must not take the network's CPUs."""

    decode_timeout_seconds: Annotated[float, Field(gt=0)] = 10
    """Longest time to decode a second of audio, in seconds; then its process is ended and the request
    refused."""

    network_passes: Annotated[int, Field(ge=1)] = Field(
        default_factory=lambda: min(2, available_cpus())
    )
    """Passes of the network that run at once. Two with a thread each do more than one with two threads, and
    take 250 MB more; on a GPU the second prepares while the first computes. Default: 2, or 1 where there is
    one CPU."""

    network_threads: Annotated[int, Field(ge=1)] = Field(
        default_factory=lambda: max(1, available_cpus() // 2)
    )
    """CPU threads of one pass of the network. Default: half of the CPUs this container may use."""

    grace_period_seconds: Annotated[int, Field(ge=0)] = 30
    """Time for running requests to finish after SIGTERM, in seconds."""

    stuck_seconds: Annotated[float, Field(gt=0)] = 60
    """Longest time that a pass of the network may take beyond the length of its audio, that a thread that
    decodes may take for one step, and that no clip may fit in the memory, in seconds. After it the server
    is neither ready nor live, so that it is restarted."""

    max_realtime_connections: Annotated[int, Field(ge=0)] = 32
    """Live audio connections open at once; each holds at most about 15 MB. 0: live audio is off."""

    realtime_idle_seconds: Annotated[float, Field(gt=0)] = 60
    """Longest silence of a live connection's client before it is closed, in seconds: no message, not
    quiet audio."""

    allowed_url_hosts: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_hosts), AfterValidator(_allowable)
    ] = ()
    """Hosts that audio may be fetched from, separated by commas: host, for ports 80 and 443, or host:port.
    A name must lead to public addresses only; write the address itself to allow a private one. None: audio
    by URL is off."""

    url_timeout_seconds: Annotated[float, Field(gt=0)] = 10
    """Longest time one fetch may take, in seconds, redirects included."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages to log."""

    log_format: Literal["text", "json"] = "text"
    """Lines of text, or of JSON with the field names of the Elastic Common Schema (ECS)."""

    access_log: bool = True
    """Log one line for each transcription request, whatever the log level: id, trace, audio, times and
    outcome. Probes and scrapes are not logged."""

    log_transcripts: bool = False
    """Write the transcripts into the access log, too. They may be personal data."""

    otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://[^/\s]+/?)?$")] = ""
    """Collector that traces are sent to by OTLP over gRPC: http://host:4317, or https for TLS. Empty: no
    traces."""

    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of requests that are traced. A caller's own choice, in its traceparent, wins."""

    @model_validator(mode="after")
    def _distinct_ports(self) -> Self:
        if self.http_port == self.grpc_port:
            raise ValueError("http_port and grpc_port must differ")
        return self

    @model_validator(mode="after")
    def _transcripts_have_a_place(self) -> Self:
        if self.log_transcripts and not self.access_log:
            raise ValueError("log_transcripts writes into the access log: set access_log, too")
        return self

    @property
    def max_body_bytes(self) -> int:
        """Largest REST body: one file of the largest size in base64, and a mebibyte of JSON."""
        return self.max_audio_bytes * 4 // 3 + MIB

    @property
    def max_message_bytes(self) -> int:
        """Largest gRPC message: one file of the largest size as it is, and a mebibyte around it."""
        return self.max_audio_bytes + MIB

    @classmethod
    def from_command_line(cls, arguments: Sequence[str]) -> "Settings":
        """Settings from flags, then environment variables, then defaults.

        Raises:
            SystemExit: 2, after one line for each setting that is unknown or out of range.
        """
        try:
            return CliApp.run(cls, cli_args=list(arguments))
        except ValidationError as error:
            for detail in error.errors():
                name = ".".join(map(str, detail["loc"]))
                where = f"--{name} ({ENV_PREFIX}{name.upper()}): " if name else ""
                sys.stderr.write(f"{where}{detail['msg']}\n")
            raise SystemExit(2) from None
