"""Find a model that may already be registered."""

import re
import tempfile
from pathlib import Path

from pipelines.fetching.errors import FetchFailed
from pipelines.fetching.source import FORMS
from pipelines.steps.fetch import fetch
from pipelines.steps.prepare import Prepared, find, prepare, storage_uri
from pipelines.tracking.registry import ModelRegistry
from pipelines.tracking.version import FAMILY, Version

MODELS = "models:/"
"""MLflow's scheme of registered models."""

_REGISTERED = re.compile(rf"{MODELS}{FAMILY}(?:/([0-9]+)|(@[\w-]+))", re.ASCII)


def locate(model: str, tracking_uri: str, cache: Path, *, required: bool) -> Prepared | None:
    """A prepared directory in the cache.

    Args:
        model: ``models:/sensevoice-small@champion`` (an alias), ``models:/sensevoice-small/3`` (a version),
            or any source of :func:`pipelines.steps.fetch.fetch`.
        tracking_uri: the MLflow server.
        cache: folder that runs share.
        required: an alias that no version has is an error.

    Returns:
        None where no version has the alias and none is required, such as the champion before the first
        release.

    Raises:
        FetchFailed: malformed, no such version, or it cannot be had.
        RegistryError, Unavailable: MLflow refuses, or does not answer.
    """
    if not model.startswith(MODELS):
        return prepare(fetch(model, cache), cache)
    named = _REGISTERED.fullmatch(model)
    if named is None:
        forms = f"{MODELS}{FAMILY}@alias, {MODELS}{FAMILY}/version, {FORMS}"
        raise FetchFailed(f"model {model!r} is not one of {forms}")
    registry = ModelRegistry(tracking_uri)
    version = registry.find(named[1] or named[2])
    if version is None:
        if named[2] and not required:
            return None
        lacking = f"alias {named[2]}; release a model first" if named[2] else "such version"
        raise FetchFailed(f"model {model!r}: the registry at {tracking_uri} has no {lacking}")
    return _restored(version, registry, cache)


def _restored(version: Version, registry: ModelRegistry, cache: Path) -> Prepared:
    """From the cache; where that lost it, out of the registry's artifacts."""
    directory = find(version.digest, cache)
    if directory:
        return Prepared(
            directory=directory,
            digest=version.digest,
            revision=version.revision,
            storage_uri=storage_uri(directory),
        )
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        prepared = prepare(fetch(str(registry.download(version, Path(folder))), cache), cache)
    if prepared.digest != version.digest:
        raise FetchFailed(
            f"version {version.version}: its artifacts have digest {prepared.digest}, and it was "
            f"registered with {version.digest}"
        )
    return prepared
