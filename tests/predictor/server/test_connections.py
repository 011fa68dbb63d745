"""As many connections as this process may have file descriptors."""

import resource
import subprocess
import sys

READ = (
    "from predictor.server.connections import allow_connections as a; import resource as r; a(); "
)
READ += "print(*r.getrlimit(r.RLIMIT_NOFILE))"


def test_all_descriptors_that_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        read = subprocess.run(
            [sys.executable, "-c", READ], capture_output=True, text=True, check=True
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert read.stdout.split() == [str(hard)] * 2
