"""The versions of a model in MLflow, and which of them serves.

Aliases tell it, not stages: the newest is ``challenger`` until it is rolled out, what serves is
``champion``, and what served before it ``previous``. Every write can be repeated: a step that was killed is
run again, and finds what it had written.
"""

from datetime import UTC, datetime
from pathlib import Path

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from pipelines.tracking import flavour
from pipelines.tracking.connection import RegistryError, asking, public, transfer
from pipelines.tracking.run import REPORT, record, tagged
from pipelines.tracking.version import FAMILY, Release, Version

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"

REJECTED = "rejected"
REJECTED_AT = "rejected_at"
"""Tags of a version that was rolled back: why, and when (ISO 8601, UTC)."""

FORMER = "former_champion"
"""Tag of a version that was promoted: the one that served before it."""

SUMMARY = "summary.md"
"""File of the report that describes the version."""

MAX_DESCRIPTION = 5000
"""Characters, which is what MLflow's databases hold."""

_ABSENT = "RESOURCE_DOES_NOT_EXIST"


class ModelRegistry:
    """
    Args:
        tracking_uri: of the MLflow server. Where ``MLFLOW_TRACKING_USERNAME`` and
            ``MLFLOW_TRACKING_PASSWORD`` are set, they are sent.
        name: of the registered model, and of the experiment with its runs.

    Raises:
        RegistryError: from every call: MLflow refuses, or a version is not there or not one of ours.
        Unavailable: from every call: it does not answer. What was written until then stays; call again.
    """

    def __init__(self, tracking_uri: str, name: str = FAMILY) -> None:
        if not tracking_uri:
            # MLflow would make a database in the working directory.
            raise RegistryError("tracking_uri is empty: name the MLflow server, http://host:port")
        self.name = name
        self._uri = tracking_uri
        try:
            self._client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
        except MlflowException as error:
            raise RegistryError(f"tracking_uri {public(tracking_uri)!r}: {error}") from error

    def register(self, release: Release) -> Version:
        """A version with the release's files, metrics and report, and the alias ``challenger``.

        Called again for the same digest and pipeline run, it finishes what it began and returns the same
        version. One that serves, served or was rejected does not become the challenger again.

        Raises:
            InvalidModel: the directory is no prepared model, is damaged, or another than the release's.
            OSError: the report's summary cannot be read.
        """
        with asking(self._uri):
            found = self._tagged(pipeline_run=release.pipeline_run, digest=release.digest)
            entity = found or self._create(release)
            self._challenge(entity)
            return self._version(entity)

    def find(self, selector: str) -> Version | None:
        """
        Args:
            selector: a version's number, or an alias with ``@`` before it.
        """
        with asking(self._uri):
            number = selector
            if selector.startswith("@"):
                number = self._aliases().get(selector[1:], "")
            elif not (selector.isascii() and selector.isdecimal()):
                raise RegistryError(f"{selector!r} is neither a version's number nor an @alias")
            entity = self._entity(number) if number else None
            return self._version(entity) if entity else None

    def of_run(self, pipeline_run: str) -> Version | None:
        """The newest version that a run of a pipeline registered."""
        with asking(self._uri):
            entity = self._tagged(pipeline_run=pipeline_run)
            return self._version(entity) if entity else None

    def download(self, version: Version, destination: Path) -> Path:
        """Bring a version's prepared directory here, as the registry has it: nothing is verified.

        Args:
            destination: a folder with room for it; made where it does not exist.

        Returns:
            The prepared directory, in ``destination``.
        """
        with asking(self._uri), transfer():
            root = self._client.get_model_version_download_uri(self.name, version.version)
            uri = f"{root}/{flavour.WEIGHTS}"
            # Of files that are gone, a download says no more than that it failed.
            if not mlflow.artifacts.list_artifacts(artifact_uri=uri, tracking_uri=self._uri):
                raise RegistryError(
                    f"MLflow at {public(self._uri)}: the files of {self.name} version "
                    f"{version.version} are gone from {uri}"
                )
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(destination), tracking_uri=self._uri
            )
            return Path(found)

    def url(self, version: Version) -> str:
        """The version's page, for people; its ``models:/`` URI where MLflow is no web server."""
        if not self._uri.startswith(("http://", "https://")):
            return f"models:/{self.name}/{version.version}"
        server = public(self._uri).rstrip("/")
        return f"{server}/#/models/{self.name}/versions/{version.version}"

    def promoted(self, version: str) -> None:
        """The version serves all users: ``champion``; the former champion becomes ``previous``."""
        with asking(self._uri):
            entity = self._required(version)
            aliases = self._aliases()
            former = entity.tags.get(FORMER)
            champion = aliases.get(CHAMPION)
            if champion not in (None, version):
                former = self._former(champion, entity)
                # First of all: once the alias has moved, nothing else tells who had it.
                self._client.set_model_version_tag(self.name, version, FORMER, former)
            if champion != version:
                self._client.set_registered_model_alias(self.name, CHAMPION, version)
            for tag in {REJECTED, REJECTED_AT} & set(entity.tags):
                self._client.delete_model_version_tag(self.name, version, tag)
            self._no_challenger(version, aliases)
            # Last of all: until then a rollback that is run again finds the same version to go back to.
            if former and self._entity(former):
                self._client.set_registered_model_alias(self.name, PREVIOUS, former)
            elif aliases.get(PREVIOUS) == version:
                self._client.delete_registered_model_alias(self.name, PREVIOUS)

    def rejected(self, version: str, reason: str) -> None:
        """The version was rolled back: tags ``rejected`` and ``rejected_at``, and not ``challenger``."""
        with asking(self._uri):
            self._required(version)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._client.set_model_version_tag(self.name, version, REJECTED, reason)
            self._client.set_model_version_tag(self.name, version, REJECTED_AT, now)
            self._no_challenger(version, self._aliases())

    def _create(self, release: Release) -> ModelVersion:
        description = _description(release.report / SUMMARY)
        model = record(self._client, self.name, release)
        if self._registered_model() is None:
            self._client.create_registered_model(self.name)
        return self._client.create_model_version(
            self.name,
            f"models:/{model.model_id}",
            run_id=model.source_run_id,
            tags=release.tags,
            description=description,
            await_creation_for=0,
            model_id=model.model_id,
        )

    def _challenge(self, entity: ModelVersion) -> None:
        version, aliases = str(entity.version), self._aliases()
        done = REJECTED in entity.tags or version in (aliases.get(CHAMPION), aliases.get(PREVIOUS))
        if not done and int(version) > int(aliases.get(CHALLENGER, 0)):
            self._client.set_registered_model_alias(self.name, CHALLENGER, version)

    def _former(self, champion: str, entity: ModelVersion) -> str:
        """Who served before a version: the champion. Where that is the same model, registered before, it is
        who served before that; empty where nothing did."""
        served = self._required(champion)
        if any(served.tags.get(name) != entity.tags.get(name) for name in ("digest", "image")):
            return champion
        former = served.tags.get(FORMER, "")
        return former if former != str(entity.version) else ""

    def _no_challenger(self, version: str, aliases: dict[str, str]) -> None:
        if aliases.get(CHALLENGER) == version:
            self._client.delete_registered_model_alias(self.name, CHALLENGER)

    def _registered_model(self) -> RegisteredModel | None:
        try:
            return self._client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != _ABSENT:
                raise
            return None

    def _aliases(self) -> dict[str, str]:
        """Alias → version. Searches for versions tell none, and an alias's own answer an absent one as a
        wrong parameter."""
        model = self._registered_model()
        # Numbers are int without a server, and str with one.
        return {alias: str(version) for alias, version in (model.aliases if model else {}).items()}

    def _entity(self, version: str) -> ModelVersion | None:
        try:
            return self._client.get_model_version(self.name, version)
        except MlflowException as error:
            if error.error_code != _ABSENT:
                raise
            return None

    def _required(self, version: str) -> ModelVersion:
        entity = self._entity(version)
        if entity is None:
            raise RegistryError(
                f"MLflow at {public(self._uri)}: {self.name} has no version {version}"
            )
        return entity

    def _tagged(self, **tags: str) -> ModelVersion | None:
        """The newest version that has all the tags."""
        found = self._client.search_model_versions(
            f"name = '{self.name}' and {tagged(tags)}",
            max_results=1,
            order_by=["version_number DESC"],
        )
        return found[0] if found else None

    def _version(self, entity: ModelVersion) -> Version:
        tags = entity.tags
        for needed in ("digest", "storage_uri"):
            if needed not in tags:
                raise RegistryError(
                    f"MLflow at {public(self._uri)}: {self.name} version {entity.version} has no tag "
                    f"{needed!r}: it was not registered by a release"
                )
        return Version(
            version=str(entity.version),
            digest=tags["digest"],
            storage_uri=tags["storage_uri"],
            image=tags.get("image"),
            source=tags.get("source", ""),
            revision=tags.get("revision", ""),
            run_id=entity.run_id or "",
        )


def _description(summary: Path) -> str:
    text = summary.read_text(encoding="utf-8")
    if len(text) <= MAX_DESCRIPTION:
        return text
    rest = f"\n\n… continued in the run's artifact {REPORT}/{SUMMARY}"
    return text[: MAX_DESCRIPTION - len(rest)] + rest
