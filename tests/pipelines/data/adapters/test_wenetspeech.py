import json

import numpy as np
import pytest

from pipelines.data.adapters import wenetspeech

NET = "audio/test_net/youtube/B00000/Y0000000000_-KTKHdZ2fb8.opus"
MEETING = "audio/test_meeting/M0000000000.opus"


def segment(sid, subset, begin, end, text):
    return {
        "sid": sid,
        "begin_time": begin,
        "end_time": end,
        "subsets": [subset],
        "text": text,
        "confidence": 1.0,
    }


def document():
    return {
        "task": "ASR",
        "description": "a corpus",
        "audios": [
            {
                "aid": "X1",
                "path": "audio/train/podcast/B00000/X1.opus",
                "duration": 5.0,
                "segments": [segment("X1_S0", "L", 0.0, 1.0, "训练")],
            },
            {
                "aid": "TEST_NET_Y0",
                "path": NET,
                "duration": 4.0,
                "segments": [
                    segment("TEST_NET_Y0_S00000", "TEST_NET", 0.5, 1.25, "第一句"),
                    segment("TEST_NET_Y0_S00001", "TEST_NET", 3.0, 3.5, "第二 句 \n"),
                ],
            },
            {
                "aid": "TEST_MEETING_T0",
                "path": MEETING,
                "duration": 2.0,
                "segments": [segment("TEST_MEETING_T0_S00000", "TEST_MEETING", 0.1, 0.4, "开会")],
            },
        ],
    }


def make(root, audio, text):
    audio(root / NET, 4.0)
    audio(root / MEETING, 2.0)
    text(root / "WenetSpeech.json", json.dumps(document(), ensure_ascii=False, indent=2))


@pytest.mark.parametrize("chunk", [7, 100, 1 << 22])
def test_segments_of_the_test_sets_become_clips(
    tmp_path, audio, text, adapt, samples, monkeypatch, chunk
):
    monkeypatch.setattr(wenetspeech, "CHUNK", chunk)
    make(tmp_path / "WenetSpeech", audio, text)
    utterances = adapt("wenetspeech", tmp_path / "WenetSpeech")
    assert {key: (one.text, one.noise) for key, one in utterances.items()} == {
        "TEST_NET_Y0_S00000": ("第一句", "net"),
        "TEST_NET_Y0_S00001": ("第二 句", "net"),
        "TEST_MEETING_T0_S00000": ("开会", "meeting"),
    }
    assert {one.language for one in utterances.values()} == {"zh"}
    first = samples(utterances["TEST_NET_Y0_S00000"].audio)
    second = samples(utterances["TEST_NET_Y0_S00001"].audio)
    assert (len(first), len(second)) == (12_000, 8_000)
    # The tone's loudness rises from 0 to 0.8 in 4 s, so it says which seconds these are.
    assert np.abs(first).max() == pytest.approx(0.8 * 1.25 / 4, rel=0.1)
    assert np.abs(second).max() == pytest.approx(0.8 * 3.5 / 4, rel=0.1)


def test_only_the_utterances_taken_are_cut(tmp_path, audio, text, adapt):
    make(tmp_path / "WenetSpeech", audio, text)
    (tmp_path / "WenetSpeech" / MEETING).unlink()
    utterances = adapt("wenetspeech", tmp_path / "WenetSpeech", limit=1)
    assert list(utterances) == ["TEST_NET_Y0_S00000"]
    assert [file.name for file in (tmp_path / "out" / "clips").iterdir()] == [
        "TEST_NET_Y0_S00000.wav"
    ]


def test_a_missing_document_is_named(tmp_path, complaint):
    assert f"no file {tmp_path / 'WenetSpeech.json'}" in complaint("wenetspeech", tmp_path)


def test_a_missing_recording_is_named(tmp_path, audio, text, complaint):
    make(tmp_path, audio, text)
    (tmp_path / MEETING).unlink()
    message = complaint("wenetspeech", tmp_path)
    assert f"1 of 2 audio files are missing, the first is {tmp_path / MEETING}" in message


def test_a_document_cut_short_is_told(tmp_path, audio, text, complaint):
    make(tmp_path, audio, text)
    whole = (tmp_path / "WenetSpeech.json").read_text(encoding="utf-8")
    text(tmp_path / "WenetSpeech.json", whole[: len(whole) // 2])
    assert "WenetSpeech.json: not a JSON document with a list" in complaint("wenetspeech", tmp_path)


def test_a_broken_document_is_not_read_to_its_end(tmp_path, text, complaint, monkeypatch):
    monkeypatch.setattr(wenetspeech, "CHUNK", 50)
    monkeypatch.setattr(wenetspeech, "LARGEST", 200)
    text(tmp_path / "WenetSpeech.json", '{"audios": [{"aid" "X1"}, ' + " " * 10_000 + "]}")
    assert "WenetSpeech.json: not JSON: Expecting ':'" in complaint("wenetspeech", tmp_path)


def test_a_segment_without_a_field_is_named(tmp_path, text, complaint):
    content = document()
    del content["audios"][1]["segments"][0]["begin_time"]
    text(tmp_path / "WenetSpeech.json", json.dumps(content))
    assert "audio 2 lacks the field 'begin_time'" in complaint("wenetspeech", tmp_path)


def test_a_document_without_test_segments_holds_no_utterance(tmp_path, text, complaint):
    text(tmp_path / "WenetSpeech.json", json.dumps({"audios": document()["audios"][:1]}))
    assert "holds no utterance" in complaint("wenetspeech", tmp_path)
