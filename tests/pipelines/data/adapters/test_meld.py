import pytest

HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime\n"
)
CLIPS = "output_repeated_splits_test"
TIMES = '"00:14:38,127","00:14:40,378"'


def row(number, utterance, emotion):
    return f'{number},"{utterance}",Mark,{emotion},positive,0,{number},3,19,{TIMES}\n'


@pytest.mark.parametrize("suffix", [".mp4", ".wav"])
@pytest.mark.parametrize("folder", [CLIPS, f"test/{CLIPS}"])
def test_clips_are_taken_with_their_emotion(tmp_path, audio, text, adapt, suffix, folder):
    emotions = {
        "anger": "ANGRY",
        "disgust": "DISGUSTED",
        "fear": "FEARFUL",
        "joy": "HAPPY",
        "neutral": "NEUTRAL",
        "sadness": "SAD",
        "surprise": "SURPRISED",
    }
    root = tmp_path / "MELD.Raw"
    rows = [row(i, f'Oh. ""Really"", {e}?', e) for i, e in enumerate(emotions)]
    text(root / "test_sent_emo.csv", HEADER + "".join(rows))
    for number in range(len(emotions)):
        audio(root / folder / f"dia0_utt{number}{suffix}")
    audio(root / folder / f"dia99_utt0{suffix}")
    utterances = adapt("meld", root)
    assert [one.emotion for one in utterances.values()] == list(emotions.values())
    assert utterances["dia0_utt3"].text == 'Oh. "Really", joy?'
    assert utterances["dia0_utt3"].audio.endswith(suffix)
    assert utterances["dia0_utt3"].language == "en"


def test_control_characters_of_the_table_become_quotation_marks(tmp_path, audio, text, adapt):
    root = tmp_path / "MELD.Raw"
    text(root / "test_sent_emo.csv", HEADER + row(0, "That\x92s \x93it\x94\x85 \x81", "joy"))
    audio(root / CLIPS / "dia0_utt0.mp4")
    assert adapt("meld", root)["dia0_utt0"].text == "That’s “it”… "


def test_a_missing_table_is_named(tmp_path, complaint):
    assert f"no file {tmp_path / 'test_sent_emo.csv'}" in complaint("meld", tmp_path)


def test_clips_that_are_not_unpacked_are_told(tmp_path, text, complaint):
    text(tmp_path / "test_sent_emo.csv", HEADER + row(0, "Hi.", "joy"))
    assert f"no **/{CLIPS} in {tmp_path}" in complaint("meld", tmp_path)


def test_a_missing_clip_is_named(tmp_path, audio, text, complaint):
    text(tmp_path / "test_sent_emo.csv", HEADER + row(0, "Hi.", "joy") + row(1, "Ho.", "joy"))
    audio(tmp_path / CLIPS / "dia0_utt0.mp4")
    missing = tmp_path / CLIPS / "dia0_utt1.mp4"
    assert f"1 of 2 audio files are missing, the first is {missing}" in complaint("meld", tmp_path)


def test_an_unknown_emotion_is_named(tmp_path, audio, text, complaint):
    text(tmp_path / "test_sent_emo.csv", HEADER + row(0, "Hi.", "boredom"))
    audio(tmp_path / CLIPS / "dia0_utt0.mp4")
    assert "label 'boredom' is not one of anger" in complaint("meld", tmp_path)
