import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipelines.data.manifest import (
    MANIFEST,
    InvalidManifest,
    Utterance,
    read_audio,
    read_manifest,
    sample,
    write_manifest,
)

FULL = Utterance(
    id="one",
    audio="a/b.wav",
    text='你好 "hello"',
    language="zh",
    emotion="HAPPY",
    event="Speech",
    noise="street",
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    utterances = [FULL, Utterance(id="two", audio="https://host/c.flac", text="")]
    path = tmp_path / "set.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances


def test_labels_nobody_knows_are_left_out_of_the_file_and_are_none_when_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "set.jsonl"
    write_manifest(path, [Utterance(id="x", audio="x.wav")])
    assert json.loads(path.read_text()) == {"id": "x", "audio": "x.wav"}
    one = read_manifest(path)[0]
    assert (one.text, one.language, one.emotion, one.event, one.noise) == (None,) * 5


def test_audio_is_the_id_unless_one_is_given(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"audio": "x.wav"}\n{"audio": "x.wav", "id": "again"}\n')
    assert [one.id for one in read_manifest(path)] == ["x.wav", "again"]


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('\n{"audio": "x.wav"}\n\nnonsense\n')
    with pytest.raises(InvalidManifest, match=r"set\.jsonl:4: not JSON"):
        read_manifest(path)


def test_a_directory_stands_for_the_manifest_in_it(demo_model_dir: Path) -> None:
    folder = demo_model_dir / "evaluation"
    utterances = read_manifest(folder)
    assert utterances == read_manifest(folder / "manifest.jsonl")
    assert len(utterances) == 150
    assert read_audio(folder, utterances[0]) == (folder / utterances[0].audio).read_bytes()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", "Input should be"),
        ('{"text": "no audio"}', "id: Input should be a valid string"),
        ('{"id": "x"}', "audio: Field required"),
        ('{"audio": ""}', "at least 1 character"),
        ('{"audio": "x.wav", "emotion": ""}', "emotion: String should have at least 1 character"),
        ('{"audio": "x.wav", "emotions": "HAPPY"}', "emotions: Extra inputs are not permitted"),
        ('{"audio": "x.wav", "text": 3}', "text: Input should be a valid string"),
        ('{"audio": "good.wav"}', "id 'good.wav' stands there twice"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_field(
    tmp_path: Path, line: str, problem: str
) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(f'{{"audio": "good.wav"}}\n{line}\n')
    with pytest.raises(InvalidManifest) as raised:
        read_manifest(path)
    assert str(raised.value).startswith(f"{path}:2: ")
    assert problem in str(raised.value)


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_utterances_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "set.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidManifest, match=r"set\.jsonl: "):
        read_manifest(path)


def test_audio_is_read_relative_to_the_manifest_absolute_and_from_a_file_uri(
    tmp_path: Path,
) -> None:
    clip = tmp_path / "a" / "b.wav"
    clip.parent.mkdir()
    clip.write_bytes(b"sound")
    manifest = tmp_path / "set.jsonl"
    for audio in ("a/b.wav", str(clip), clip.as_uri()):
        assert read_audio(manifest, Utterance(id="x", audio=audio)) == b"sound"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of an HTTP server that serves tmp_path."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_audio_is_read_over_http(tmp_path: Path, site: str) -> None:
    (tmp_path / "b.wav").write_bytes(b"remote sound")
    one = Utterance(id="x", audio=f"{site}/b.wav")
    assert read_audio(tmp_path / "set.jsonl", one) == b"remote sound"


def test_audio_that_is_not_there_is_an_os_error(tmp_path: Path, site: str) -> None:
    for audio in ("gone.wav", (tmp_path / "gone.wav").as_uri(), f"{site}/gone.wav"):
        with pytest.raises(OSError, match="gone"):
            read_audio(tmp_path / "set.jsonl", Utterance(id="x", audio=audio))


def test_a_sample_is_spread_evenly_and_keeps_the_order() -> None:
    utterances = [Utterance(id=str(i), audio="x") for i in range(10)]
    assert [one.id for one in sample(utterances, 5)] == ["0", "2", "4", "6", "8"]
    assert [one.id for one in sample(utterances, 3)] == ["0", "3", "6"]
    assert sample(utterances, 10) == sample(utterances, 99) == utterances
    assert sample(utterances, 0) == []


def test_characters_that_end_lines_elsewhere_belong_to_their_text(tmp_path: Path) -> None:
    utterance = Utterance(id="a", audio="a.wav", text="one\u2028two\x85three")
    write_manifest(tmp_path / MANIFEST, [utterance])
    assert read_manifest(tmp_path) == [utterance]
