"""Where a service's daemon listens, told in the service's directory."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

ADDRESS = "address.json"


@dataclass(frozen=True, slots=True)
class Address:
    """
    Attributes:
        traffic: URL for users.
        control: URL of the control API.
        token: bearer token of the control API. Who has it can run programs as the daemon's user.
    """

    traffic: str
    control: str
    token: str


def read_address(directory: Path) -> Address:
    """
    Raises:
        FileNotFoundError: no daemon is running, or none is ready yet.
        ValueError: the file is not a daemon's.
    """
    path = directory / ADDRESS
    try:
        return Address(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not an address: {error}") from error


def write_address(directory: Path, address: Address) -> None:
    """Replace the address in one step, readable by its owner alone."""
    with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as file:
        json.dump(asdict(address), file)
    Path(file.name).replace(directory / ADDRESS)


def remove_address(directory: Path) -> None:
    """Once nobody listens any more."""
    (directory / ADDRESS).unlink(missing_ok=True)
