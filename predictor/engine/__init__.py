"""The speech library: bytes of an audio file in, a ``Transcript`` out. It knows no server."""

import sys

# OpenVINO tells its makers of each import, from a thread of its own, where this package can be imported;
# without it, it uses a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: "cannot be imported"
