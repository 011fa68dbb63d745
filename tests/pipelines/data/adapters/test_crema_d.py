import pytest


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("ANG", "ANGRY"),
        ("DIS", "DISGUSTED"),
        ("FEA", "FEARFUL"),
        ("HAP", "HAPPY"),
        ("NEU", "NEUTRAL"),
        ("SAD", "SAD"),
    ],
)
def test_the_file_name_gives_sentence_and_emotion(tmp_path, audio, adapt, code, label):
    audio(tmp_path / f"CREMA-D/AudioWAV/1001_DFA_{code}_XX.wav")
    one = adapt("crema-d", tmp_path / "CREMA-D")[f"1001_DFA_{code}_XX"]
    assert (one.emotion, one.text, one.language) == (label, "Don't forget a jacket.", "en")


def test_recordings_known_to_be_broken_are_left_out(tmp_path, audio, adapt):
    for name in ("1064_IEO_DIS_MD", "1076_MTI_SAD_XX", "1091_WSI_HAP_XX"):
        audio(tmp_path / f"CREMA-D/AudioWAV/{name}.wav")
    assert list(adapt("crema-d", tmp_path / "CREMA-D")) == ["1091_WSI_HAP_XX"]


def test_a_clone_without_git_lfs_is_recognised(tmp_path, text, complaint):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 73258\n"
    text(tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav", pointer)
    assert "is a Git LFS pointer: run git lfs pull" in complaint("crema-d", tmp_path)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("1001.wav", "not named ACTOR_SENTENCE_EMOTION_INTENSITY"),
        ("1001_DFA_BOR_XX.wav", "label 'BOR' is not one of ANG"),
        ("1001_XYZ_ANG_XX.wav", "label 'XYZ' is not one of IEO"),
    ],
)
def test_a_file_with_another_name_is_named(tmp_path, audio, complaint, name, problem):
    audio(tmp_path / "AudioWAV" / name)
    message = complaint("crema-d", tmp_path)
    assert name in message
    assert problem in message


def test_a_missing_folder_is_named(tmp_path, complaint):
    assert f"no AudioWAV/*.wav in {tmp_path}" in complaint("crema-d", tmp_path)
