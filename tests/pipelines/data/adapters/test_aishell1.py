def make(root, audio, text):
    audio(root / "wav/test/S0764/BAC009S0764W0121.wav")
    audio(root / "wav/test/S0765/BAC009S0765W0122.wav")
    audio(root / "wav/train/S0002/BAC009S0002W0122.wav")
    text(
        root / "transcript/aishell_transcript_v0.8.txt",
        "BAC009S0002W0122 而 对 楼市\nBAC009S0764W0121 甚至 出现 交易 几乎 停滞 的 情况\n",
    )


def test_the_test_split_is_taken_without_spaces_between_words(tmp_path, audio, text, adapt):
    make(tmp_path / "data_aishell", audio, text)
    utterances = adapt("aishell-1", tmp_path / "data_aishell")
    # The second speaker's recording has no transcript, the third is of the training split.
    assert list(utterances) == ["BAC009S0764W0121"]
    one = utterances["BAC009S0764W0121"]
    assert one.text == "甚至出现交易几乎停滞的情况"
    assert one.language == "zh"
    assert one.emotion is one.event is None


def test_archives_that_are_not_unpacked_yet_are_told(tmp_path, text, complaint):
    text(tmp_path / "data_aishell/wav/S0764.tar.gz", "")
    assert "archives in" in complaint("aishell-1", tmp_path / "data_aishell")


def test_a_missing_transcript_is_named(tmp_path, audio, text, complaint):
    root = tmp_path / "data_aishell"
    make(root, audio, text)
    (root / "transcript/aishell_transcript_v0.8.txt").unlink()
    message = complaint("aishell-1", root)
    assert f"no file {root / 'transcript/aishell_transcript_v0.8.txt'}" in message


def test_transcripts_of_other_recordings_make_no_set(tmp_path, audio, text, complaint):
    audio(tmp_path / "set/wav/test/S0764/BAC009S0764W0121.wav")
    text(tmp_path / "set/transcript/aishell_transcript_v0.8.txt", "BAC009S0002W0122 而\n")
    assert "holds no utterance" in complaint("aishell-1", tmp_path / "set")
