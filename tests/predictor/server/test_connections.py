"""In a process of its own: limits are a process's."""

import resource
import subprocess
import sys

READ = """
import resource
from predictor.server.connections import allow_connections
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
allow_connections()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_all_descriptors_that_may_be() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    read = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True)
    assert read.stdout.split() == [str(hard)] * 2
