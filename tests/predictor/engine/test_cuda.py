"""On a GPU the engine hears what it hears on the CPU."""

import pytest
import torch

from predictor.engine.transcribe import Engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


def test_transcripts_equal_those_of_the_cpu(demo_model_dir):
    clips = sorted((demo_model_dir / "evaluation").glob("*-*.*"))[::5]
    on_cpu, on_gpu = (Engine(demo_model_dir, device) for device in ("cpu", "cuda"))
    for clip in clips:
        expected, heard = (engine.transcribe(clip.read_bytes()) for engine in (on_cpu, on_gpu))
        assert heard.text == expected.text
        assert heard.language.label == expected.language.label
        assert heard.emotion.confidence == pytest.approx(expected.emotion.confidence, abs=1e-3)


def test_features_are_made_on_the_gpu(demo_model_dir):
    engine = Engine(demo_model_dir, "cuda")
    features = engine.frontend(torch.zeros(16_000, device="cuda"))
    assert features.device.type == "cuda"
