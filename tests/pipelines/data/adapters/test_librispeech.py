def make(root, audio, text):
    for split, chapter in (("test-clean", "1089/134686"), ("test-other", "367/130732")):
        key = chapter.replace("/", "-")
        for number in range(2):
            audio(root / split / chapter / f"{key}-{number:04}.flac")
        text(
            root / split / chapter / f"{key}.trans.txt",
            f"{key}-0000 HE HOPED THERE WOULD BE STEW\n{key}-0001 IT'S LATE\n",
        )


def test_both_test_splits_are_taken_in_lower_case(tmp_path, audio, text, adapt):
    make(tmp_path / "LibriSpeech", audio, text)
    utterances = adapt("librispeech", tmp_path / "LibriSpeech")
    assert {key: (one.text, one.noise) for key, one in utterances.items()} == {
        "1089-134686-0000": ("he hoped there would be stew", "clean"),
        "1089-134686-0001": ("it's late", "clean"),
        "367-130732-0000": ("he hoped there would be stew", "other"),
        "367-130732-0001": ("it's late", "other"),
    }
    assert {one.language for one in utterances.values()} == {"en"}


def test_the_parent_of_the_right_folder_is_refused(tmp_path, audio, text, complaint):
    make(tmp_path / "LibriSpeech", audio, text)
    assert "neither test-clean nor test-other" in complaint("librispeech", tmp_path)


def test_missing_audio_is_counted_and_named(tmp_path, audio, text, complaint):
    root = tmp_path / "LibriSpeech"
    make(root, audio, text)
    gone = root / "test-other/367/130732/367-130732-0001.flac"
    gone.unlink()
    message = complaint("librispeech", root)
    assert f"1 of 4 audio files are missing, the first is {gone}" in message


def test_a_line_without_text_is_named(tmp_path, audio, text, complaint):
    root = tmp_path / "LibriSpeech"
    make(root, audio, text)
    text(root / "test-clean/1089/134686/1089-134686.trans.txt", "1089-134686-0000 A\nlonely\n")
    assert "1089-134686.trans.txt:2: no text" in complaint("librispeech", root)


def test_a_split_without_transcripts_is_named(tmp_path, complaint):
    (tmp_path / "test-clean").mkdir()
    assert "no */*/*.trans.txt in" in complaint("librispeech", tmp_path)
