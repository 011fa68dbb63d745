import sys
import wave
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipelines.tracking import flavour
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions


@pytest.fixture(scope="module")
def model(demo_model_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    """The embedded model, as MLflow loads it."""
    folder = tmp_path_factory.mktemp("mlflow") / "model"
    flavour.write(Model(artifact_path="anywhere"), folder, demo_model_dir)
    weights = folder / flavour.WEIGHTS
    weights.rmdir()
    weights.symlink_to(demo_model_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])  # Loading prepends the model's own code.
        yield mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def clips(demo_model_dir: Path) -> list[bytes]:
    return [
        (demo_model_dir / "evaluation" / f"{name}.opus").read_bytes()
        for name in ("zh-001", "en-001", "laughter-001")
    ]


def test_each_row_is_what_the_engine_hears(model, clips, demo_model_dir):
    engine = Engine(demo_model_dir)
    found = model.predict(pd.DataFrame({"audio": clips}, index=[7, 8, 9]))
    assert list(found.columns) == flavour.SIGNATURE.outputs.input_names()
    for row, clip in zip(found.to_dict("records"), clips, strict=True):
        heard = engine.transcribe(clip)
        assert row["text"] == heard.text
        assert row["event"] == heard.event.label
        assert row["event_confidence"] == pytest.approx(heard.event.confidence, abs=0.02)
        assert row["duration"] == heard.duration


def test_options_reach_the_engine(model, clips, demo_model_dir):
    params = {"language": "ja,ko", "use_itn": False, "ban_emo_unk": True}
    (row,) = model.predict(pd.DataFrame({"audio": clips[:1]}), params=params).to_dict("records")
    heard = Engine(demo_model_dir).transcribe(clips[0], TranscribeOptions.parse(params))
    assert row["text"] == heard.text
    assert row["language"] == heard.language.label
    assert row["emotion"] == heard.emotion.label != "EMO_UNKNOWN"


def test_columns_are_there_without_rows(model):
    found = model.predict(pd.DataFrame({"audio": []}, dtype=object))
    assert list(found.columns) == flavour.SIGNATURE.outputs.input_names()
    assert found.empty


def test_silence_at_the_end_is_kept(model, tmp_path):
    """Arrays of bytes would lose the zeros."""
    with wave.open(str(tmp_path / "silence.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(32000))
    audio = (tmp_path / "silence.wav").read_bytes()
    assert model.predict(pd.DataFrame({"audio": [audio]}))["duration"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("audio", "message"),
    [(b"no audio", "row 1: "), ("text", "row 1: audio must be bytes, not str"), (None, "row 1: ")],
)
def test_a_bad_row_is_named(model, clips, audio, message):
    with pytest.raises(MlflowException, match=message) as caught:
        model.predict(pd.DataFrame({"audio": [clips[0], audio]}))
    assert caught.value.get_http_status_code() == 400


def test_a_bad_option_is_named(model, clips):
    with pytest.raises(MlflowException, match="option 'language': unknown code 'xx'"):
        model.predict(pd.DataFrame({"audio": clips[:1]}), params={"language": "xx"})
