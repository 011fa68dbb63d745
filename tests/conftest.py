"""What tests of every folder share: model directories and audio."""

import os
from pathlib import Path

import pytest

from pipelines.random_model import write_random_model
from predictor.engine.checkpoint import MANIFEST
from predictor.engine.prepare import prepare

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO_MODEL = REPOSITORY / "predictor" / "demo_model"


@pytest.fixture(scope="session")
def demo_model_dir() -> Path:
    """The embedded model."""
    assert (DEMO_MODEL / MANIFEST).is_file()
    return DEMO_MODEL


@pytest.fixture(scope="session")
def reference_files() -> Path:
    """config.yaml, am.mvn and the tokenizer of the published SenseVoiceSmall."""
    folder = os.environ.get("SENSEVOICE_REFERENCE_FILES")
    if not folder:
        pytest.skip("SENSEVOICE_REFERENCE_FILES names no folder with SenseVoiceSmall's config")
    return Path(folder)


@pytest.fixture(scope="session")
def random_source_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as the model hub gives it (model.pt), tiny, with random weights."""
    sizes = {"output_size": 32, "linear_units": 64, "num_blocks": 2, "tp_blocks": 1}
    return write_random_model(
        DEMO_MODEL, tmp_path_factory.mktemp("hub") / "source", sizes, pickled=True
    )


@pytest.fixture(scope="session")
def random_model_dir(random_source_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared for serving."""
    destination = tmp_path_factory.mktemp("models") / "random"
    prepare(random_source_dir, destination, name="random")
    return destination
