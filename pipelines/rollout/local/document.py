"""What a local service is asked to be, and what has come of it, in one file.

The counterpart of an InferenceService's specification and status, in Knative mode: each new candidate is a
new generation; once it has been ready, it has the canary's share, or everything where none is set; until
then the stable one has all. Pure but for reading and writing.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipelines.fetching.cache import read_text, write_text

DOCUMENT = "document.json"


class InvalidDocument(ValueError):
    """Names the file and what is wrong with it."""


def _absolute(path: str) -> str:
    if not Path(path).is_absolute():
        raise ValueError(f"must be an absolute path, not {path!r}")
    return path


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Percent = Annotated[int, Field(ge=0, le=100)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(_Section):
    """What a generation serves.

    Attributes:
        storage_uri: absolute path of a prepared model directory.
        digest: sha256 of the model's files: other content in the same directory is another model.
        image: absolute path of the Python interpreter that runs the predictor; None: the daemon's own.
    """

    storage_uri: AbsolutePath
    digest: str
    image: AbsolutePath | None = None


class Generation(_Section):
    """
    Attributes:
        name: of its revision.
        was_ready: it has answered before, so that it is started again when it ends; one that never
            was ready has failed then.
    """

    name: str
    model: Model
    was_ready: bool = False


class Document(_Section):
    """
    Attributes:
        version: raised with every change.
        percent: the canary's share; None: no canary, the newest generation has all once it is ready.
        state: what a rollout wrote down.
        created: how many generations there were.
        stable: serves the users; None where nothing does.
        newest: serves the specification's model; None where none was ever asked for.
    """

    version: int = 0
    percent: Percent | None = None
    state: str | None = None
    created: int = 0
    stable: Generation | None = None
    newest: Generation | None = None

    @property
    def candidate(self) -> Generation | None:
        """The newest generation where it is not the stable one."""
        return None if self.stable and self.stable == self.newest else self.newest

    @property
    def generations(self) -> list[Generation]:
        """Those whose processes are to run, the stable one first."""
        return [each for each in (self.stable, self.candidate) if each]

    @property
    def shares(self) -> dict[str, int]:
        """Revision → percent of the users' traffic."""
        stable, candidate = self.stable, self.candidate
        if stable is None or candidate is None:
            return {each.name: 100 for each in self.generations}
        share = (self.percent or 0) if candidate.was_ready else 0
        return {stable.name: 100 - share, candidate.name: share}

    @property
    def fingerprint(self) -> str:
        """Digest of the specification without the canary's share, sha256 in hex."""
        model = self.newest.model.model_dump() if self.newest else None
        return hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()

    def rewritten(self, name: str, *, state: str, percent: int | None, model: Model | None) -> Self:
        """With a rollout's decision in it.

        Args:
            name: what revisions are named for.
            model: of a new generation, also where the newest one has it and may have failed; None leaves
                the newest.
        """
        changes = {"version": self.version + 1, "state": state, "percent": percent}
        if model:
            created = self.created + 1
            newest = Generation(name=f"{name}-{created:05d}", model=model)
            changes |= {"created": created, "newest": newest}
        return self.model_copy(update=changes)

    def with_newest_ready(self) -> Self:
        """As the controller has it once the newest generation answers; the same where nothing changes."""
        if self.newest is None:
            return self
        newest = self.newest.model_copy(update={"was_ready": True})
        takes_all = self.percent is None or self.candidate is None or self.stable is None
        stable = newest if takes_all else self.stable
        if (newest, stable) == (self.newest, self.stable):
            return self
        version = self.version + 1
        return self.model_copy(update={"version": version, "newest": newest, "stable": stable})


def read_document(directory: Path) -> Document:
    """The service's document; an empty one where there is none.

    Raises:
        InvalidDocument: not written by a daemon of this kind.
    """
    path = directory / DOCUMENT
    text = read_text(path)
    try:
        return Document.model_validate_json(text) if text else Document()
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "document"
        raise InvalidDocument(
            f"{path}: {where}: {problem['msg']}; remove the file to start with an empty service"
        ) from error


def write_document(directory: Path, document: Document) -> None:
    """Replace the document in one step: a crash leaves the former one or this one.

    Raises:
        OSError: it cannot be written.
    """
    # Escaped to ASCII, so that no locale matters.
    text = json.dumps(document.model_dump(mode="json"), indent=2)
    write_text(directory / DOCUMENT, text + "\n")
