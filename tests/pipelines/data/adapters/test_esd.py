import pytest

EMOTIONS = {
    "Angry": "ANGRY",
    "Happy": "HAPPY",
    "Neutral": "NEUTRAL",
    "Sad": "SAD",
    "Surprise": "SURPRISED",
}


def transcript(root, speaker, content, encoding):
    (root / speaker).mkdir(parents=True, exist_ok=True)
    (root / speaker / f"{speaker}.txt").write_bytes(content.encode(encoding))


def test_folders_give_language_and_emotion(tmp_path, audio, adapt):
    root = tmp_path / "Emotion Speech Dataset"
    for speaker in ("0001", "0011"):
        for number, emotion in enumerate(EMOTIONS):
            audio(root / speaker / emotion / f"{speaker}_{number * 350 + 1:06}.wav")
        transcript(root, speaker, f"{speaker}_000001\ta b\tAngry\n", "utf-8")
    (root / "ReadMe.txt").write_text("about")
    utterances = adapt("esd", root)
    assert len(utterances) == 10
    for number, label in enumerate(EMOTIONS.values()):
        key = f"{number * 350 + 1:06}"
        assert utterances[f"0001_{key}"].emotion == label
        assert utterances[f"0001_{key}"].language == "zh"
        assert utterances[f"0011_{key}"].language == "en"
    assert utterances["0011_000001"].text == "a b"
    assert utterances["0011_000351"].text is None


def test_copies_with_splits_are_taken_whole(tmp_path, audio, adapt):
    for number, split in enumerate(("train", "evaluation", "test"), 1):
        audio(tmp_path / f"ESD/0010/Sad/{split}/0010_{number:06}.wav")
    transcript(tmp_path / "ESD", "0010", "0010_000002\t你好\t伤心\n", "utf-8")
    utterances = adapt("esd", tmp_path / "ESD")
    assert sorted(utterances) == ["0010_000001", "0010_000002", "0010_000003"]
    assert utterances["0010_000002"].text == "你好"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb2312"])
def test_chinese_transcripts_are_read_in_each_encoding_of_the_set(tmp_path, audio, adapt, encoding):
    audio(tmp_path / "ESD/0002/Happy/0002_000351.wav")
    content = "0002_000351\t打远一看,它们的确很是美丽,\t快乐\r\n"
    transcript(tmp_path / "ESD", "0002", content, encoding)
    assert adapt("esd", tmp_path / "ESD")["0002_000351"].text == "打远一看,它们的确很是美丽,"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "line",
    [
        "0016_000001\tIt’s a café.\tSad",
        "0016_000001 It’s a café. Sad",
        "0016_000001 It’s a café.\tSad",
        "0016_000001\tIt’s a café. Sad",
        "0016_000001\tIt’s a café.",
    ],
)
def test_english_transcripts_are_read_in_each_form_of_the_set(
    tmp_path, audio, adapt, encoding, line
):
    audio(tmp_path / "ESD/0016/Sad/0016_000001.wav")
    transcript(tmp_path / "ESD", "0016", f"\n{line}\n", encoding)
    assert adapt("esd", tmp_path / "ESD")["0016_000001"].text == "It’s a café."


def test_a_missing_transcript_is_named(tmp_path, audio, complaint):
    audio(tmp_path / "0001/Sad/0001_000001.wav")
    assert f"no file {tmp_path / '0001' / '0001.txt'}" in complaint("esd", tmp_path)


def test_a_speaker_without_audio_is_named(tmp_path, complaint):
    transcript(tmp_path, "0001", "", "utf-8")
    assert "no Angry|Happy|Neutral|Sad|Surprise/0001_*.wav" in complaint("esd", tmp_path)


def test_a_root_without_speakers_is_told(tmp_path, complaint):
    assert f"no 0* in {tmp_path}" in complaint("esd", tmp_path)
