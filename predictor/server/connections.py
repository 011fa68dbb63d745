"""How many connections there may be."""

import resource


def allow_connections() -> None:
    """Use all file descriptors that this process may have: each connection takes one. Shells and container
    runtimes give 1,024 until asked for more, for the sake of programs that call ``select``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
