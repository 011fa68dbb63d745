"""What can go wrong while fetching; every message says what to do."""


class FetchFailed(Exception):
    """The source is wrong or cannot be had; nothing was left that looks whole."""


class HubUnavailable(FetchFailed):
    """The hub does not answer, or answers with its own errors; a later run may succeed."""


class DiskFull(FetchFailed):
    """The cache has no room; what was written so far is gone again."""


class CacheUnavailable(FetchFailed):
    """The cache's volume is gone, read-only or broken; nothing was left that looks whole."""
