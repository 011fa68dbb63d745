import numpy as np
import pytest

from pipelines.data.adapter import InvalidDataset
from pipelines.data.excerpt import Excerpt, cut


def test_an_excerpt_reads_back_from_its_text(tmp_path):
    one = Excerpt(tmp_path / "a#t=1,2.opus", 0.25, 7200.125)
    assert Excerpt.parse(str(one)) == one


def test_a_path_without_a_time_span_is_a_whole_file():
    assert Excerpt.parse("/a/b.wav") is None
    assert Excerpt.parse("/a/b#t=1,2.wav") is None


@pytest.mark.parametrize(("begin", "end"), [(1.0, 1.0), (2.0, 1.0), (-0.5, 1.0)])
def test_a_span_without_length_is_refused(tmp_path, begin, end):
    with pytest.raises(InvalidDataset, match=r"long\.wav: .* is no span of time"):
        Excerpt(tmp_path / "long.wav", begin, end)


def test_clips_hold_exactly_their_samples(tmp_path, audio, samples):
    source = tmp_path / "long.wav"
    audio(source, 5.0)
    whole = samples(str(source))
    spans = {"b": (2.5, 4.75), "a": (0.0, 1.5), "inside": (2.75, 3.0), "seam": (0.9, 1.1)}
    cut({tmp_path / f"{name}.wav": Excerpt(source, *span) for name, span in spans.items()})
    for name, (begin, end) in spans.items():
        expected = whole[round(begin * 16_000) : round(end * 16_000)]
        np.testing.assert_allclose(samples(str(tmp_path / f"{name}.wav")), expected, atol=1e-4)


def test_other_rates_are_cut_by_time(tmp_path, audio, samples):
    audio(tmp_path / "long.flac", 2.0, rate=44_100)
    cut({tmp_path / "clip.wav": Excerpt(tmp_path / "long.flac", 0.5, 1.25)})
    assert len(samples(str(tmp_path / "clip.wav"))) == 12_000


def test_an_excerpt_past_the_end_is_cut_there(tmp_path, audio, samples):
    audio(tmp_path / "long.wav", 1.0)
    cut({tmp_path / "clip.wav": Excerpt(tmp_path / "long.wav", 0.5, 1.2)})
    assert len(samples(str(tmp_path / "clip.wav"))) == 8_000


def test_an_excerpt_that_begins_after_the_end_is_named(tmp_path, audio):
    audio(tmp_path / "long.wav", 1.0)
    with pytest.raises(InvalidDataset, match=r"long\.wav: 1\.00 s long, .* begins at 1\.5 s"):
        cut({tmp_path / "clip.wav": Excerpt(tmp_path / "long.wav", 1.5, 2.0)})


def test_a_source_that_is_not_audio_is_named(tmp_path):
    (tmp_path / "long.opus").write_bytes(b"<html>not found</html>")
    with pytest.raises(InvalidDataset, match=r"long\.opus: audio: "):
        cut({tmp_path / "clip.wav": Excerpt(tmp_path / "long.opus", 0.0, 1.0)})
