"""What is registered, and what the registry knows of it afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FAMILY = "sensevoice-small"
"""The model's name in the registry."""


@dataclass(frozen=True, slots=True)
class Release:
    """A model that was prepared and measured.

    Attributes:
        directory: prepared model directory.
        digest: sha256 of the model's files (:attr:`predictor.engine.checkpoint.Manifest.digest`).
        storage_uri: where revisions are served from, such as ``pvc://model-cache/sensevoice-small/<digest>``.
        image: of the predictor that is to serve it; None for the service's own.
        source: where it was fetched from, such as ``modelscope://iic/SenseVoiceSmall@<commit>``.
        revision: the source's commit; empty where it has none.
        pipeline_run: id of the Kubeflow run that measured it.
        data_name, data_digest: of the data set that it was measured on.
        metrics: measurements by name, such as ``accuracy/zh/cer``.
        report: folder with the evaluation's ``report.html``, ``summary.md``, ``metrics.json`` and
            ``table.jsonl``.
    """

    directory: Path
    digest: str
    storage_uri: str
    image: str | None
    source: str
    revision: str
    pipeline_run: str
    data_name: str
    data_digest: str
    metrics: Mapping[str, float]
    report: Path

    @property
    def tags(self) -> dict[str, str]:
        """What a version is found and served by; what the release leaves open is absent."""
        tags = {
            "digest": self.digest,
            "storage_uri": self.storage_uri,
            "image": self.image,
            "source": self.source,
            "revision": self.revision,
            "pipeline_run": self.pipeline_run,
            "data_name": self.data_name,
            "data_digest": self.data_digest,
        }
        return {name: value for name, value in tags.items() if value}


@dataclass(frozen=True, slots=True)
class Version:
    """A registered release; see :class:`Release`.

    Attributes:
        version: its number, counted from 1.
        run_id: of the MLflow run with its metrics and report; empty where it has none.
    """

    version: str
    digest: str
    storage_uri: str
    image: str | None
    source: str
    revision: str
    run_id: str
