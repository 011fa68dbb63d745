"""What a local service tells a person."""


class LocalError(Exception):
    """Trying again does not help; the message tells what to change."""
