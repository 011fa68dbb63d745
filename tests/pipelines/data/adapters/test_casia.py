EMOTIONS = {
    "angry": "ANGRY",
    "fear": "FEARFUL",
    "happy": "HAPPY",
    "neutral": "NEUTRAL",
    "sad": "SAD",
    "surprise": "SURPRISED",
}


def test_the_folder_gives_the_emotion(tmp_path, audio, adapt):
    for speaker in ("liuchanhg", "ZhaoZuoxiang"):
        for emotion in EMOTIONS:
            audio(tmp_path / "CASIA" / speaker / emotion / "201.wav")
    utterances = adapt("casia", tmp_path / "CASIA")
    assert len(utterances) == 12
    for emotion, label in EMOTIONS.items():
        one = utterances[f"liuchanhg/{emotion}/201"]
        assert (one.emotion, one.language, one.text) == (label, "zh", None)


def test_an_unknown_emotion_is_named(tmp_path, audio, complaint):
    audio(tmp_path / "wangzhe/bored/201.wav")
    assert "label 'bored' is not one of angry, fear" in complaint("casia", tmp_path)


def test_a_root_that_does_not_exist_is_named(tmp_path, complaint):
    assert f"no folder {tmp_path / 'CASIA'}" in complaint("casia", tmp_path / "CASIA")


def test_a_root_without_audio_is_told(tmp_path, complaint):
    (tmp_path / "wangzhe/sad").mkdir(parents=True)
    assert f"no */*/*.wav in {tmp_path}" in complaint("casia", tmp_path)
