"""Why there is no transcript."""


class ServiceError(Exception):
    """The service answered with an error, or not at all.

    Attributes:
        message: the service's own sentence, where it gave one.
        status: HTTP status; None where there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message if self.status is None else f"{self.message} (status {self.status})"


class Refused(ServiceError):
    """The request is wrong, or asks for what is not there: sending it again changes nothing."""


class Unavailable(ServiceError):
    """Overloaded, starting, stopping or not reachable, for longer than there was patience."""


class InvalidAnswer(ServiceError):
    """Something answered that is no predictor: a proxy's page, or another service."""
