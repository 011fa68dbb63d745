"""The whole path, from a file to its transcript, with the embedded model."""

import json
import math
import time
from itertools import pairwise

import jiwer
import numpy as np
import pytest

from predictor.engine import transcribe
from predictor.engine.errors import AudioTooLarge, AudioTooLong, InvalidAudio, InvalidRequest
from predictor.engine.recording import Clip
from predictor.engine.segment import Span
from predictor.engine.tokenizer import EMOTION_LABELS, EVENT_LABELS, LANGUAGE_LABELS
from predictor.engine.types import SAMPLE_RATE, TranscribeOptions, Waveform

LANGUAGES = ["zh", "en", "yue", "ja", "ko"]


def options(**values):
    return TranscribeOptions.parse(values)


def plain(text):
    """Characters without spaces, case and punctuation."""
    return "".join(character for character in text.lower() if character.isalnum())


def character_error_rate(wanted, got):
    return jiwer.cer([plain(text) for text in wanted], [plain(text) for text in got])


def hiss(seconds, level=0.01):
    rng = np.random.default_rng(0)
    return rng.normal(0, level, round(seconds * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def clips(spoken):
    """Six clips of each language, spread over its voices and moods."""
    return {language: spoken[language][::4][:6] for language in LANGUAGES}


@pytest.fixture(scope="module")
def transcripts(demo_engine, clips):
    return {
        language: [
            demo_engine.transcribe(clip.path.read_bytes(), options(use_itn=False))
            for clip in clips[language]
        ]
        for language in LANGUAGES
    }


def test_shipped_clips_are_understood(clips, transcripts):
    wanted = [clip.text for language in LANGUAGES for clip in clips[language]]
    got = [transcript.text for language in LANGUAGES for transcript in transcripts[language]]
    assert character_error_rate(wanted, got) <= 0.2


def test_their_languages_are_told_apart(transcripts):
    right = [t.language.label == lang for lang in LANGUAGES for t in transcripts[lang]]
    assert sum(right) >= 0.8 * len(right)


def test_events_without_speech_are_named_and_give_no_text(demo_engine, shipped):
    events = [clip for clip in shipped if not clip.text]
    heard = [demo_engine.transcribe(clip.path.read_bytes()) for clip in events]
    assert (
        np.mean([t.event.label == clip.event for t, clip in zip(heard, events, strict=True)])
        >= 0.75
    )
    assert np.mean([t.text == "" for t in heard]) >= 0.75
    assert np.mean([t.language.label == "nospeech" for t in heard]) >= 0.75


@pytest.mark.parametrize("seconds", [0.01, 1, 45])
def test_silence_is_empty_and_nobody_speaks(random_engine, seconds):
    transcript = random_engine.transcribe(Waveform(np.zeros(round(seconds * SAMPLE_RATE), "f4")))
    assert (transcript.text, transcript.segments) == ("", ())
    assert transcript.language.label == "nospeech"
    assert transcript.duration == seconds


def same(one, other):
    """Equal texts, tags and times; confidences but for rounding."""
    assert one.text == other.text
    assert one.duration == other.duration
    for mine, theirs in zip(one.segments, other.segments, strict=True):
        assert (mine.start, mine.end, mine.text) == (theirs.start, theirs.end, theirs.text)
        for tag in ("language", "emotion", "event"):
            assert getattr(mine, tag).label == getattr(theirs, tag).label
            assert getattr(mine, tag).confidence == pytest.approx(
                getattr(theirs, tag).confidence, abs=1e-3
            )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_waveform_and_its_file_give_the_same(demo_engine, clips, language):
    clip = clips[language][0]
    same(
        demo_engine.transcribe(Waveform(clip.samples)),
        demo_engine.transcribe(clip.path.read_bytes()),
    )


def test_the_format_of_a_file_makes_no_difference(demo_engine, clips, encode):
    """Lossless formats of the same samples."""
    samples = np.round(clips["en"][0].samples * 32767) / 32768
    expected = demo_engine.transcribe(encode(samples, kind="wav"))
    for kind in ("flac", "aiff", "wav-float"):
        same(demo_engine.transcribe(encode(samples, kind=kind)), expected)


def test_an_empty_file_is_refused(random_engine):
    with pytest.raises(InvalidAudio, match="empty"):
        random_engine.transcribe(b"")


def test_a_single_sample_is_transcribed(random_engine):
    assert random_engine.transcribe(Waveform(np.array([0.5], "f4"))).duration == 1 / SAMPLE_RATE


def test_limits_are_those_of_the_engine(random_model_dir, encode, tone):
    engine = transcribe.Engine(random_model_dir, max_audio_seconds=1.0, max_audio_bytes=40_000)
    assert engine.transcribe(encode(tone(440, 1.0))).duration == 1.0
    with pytest.raises(AudioTooLong):
        engine.transcribe(encode(tone(440, 1.1)))
    with pytest.raises(AudioTooLong):
        engine.transcribe(Waveform(tone(440, 1.1)))
    with pytest.raises(AudioTooLarge):
        engine.transcribe(encode(tone(440, 1.3)))


@pytest.mark.parametrize("level", [1e6, 1e25, 3e38])
def test_a_float_file_far_too_loud_gives_numbers_or_an_error(random_engine, encode, level):
    loud = np.random.default_rng(0).uniform(-level, level, SAMPLE_RATE)
    try:
        transcript = random_engine.transcribe(
            encode(loud, kind="wav-float"), options(distributions=True, timestamps="word")
        )
    except InvalidAudio:
        return
    json.dumps(transcript.to_dict(), allow_nan=False)


def test_a_clip_gives_the_same_alone_and_among_others(demo_engine, clips):
    """Short clips beside long ones, every language and text normalisation in one batch."""
    batch = []
    for index, language in enumerate(LANGUAGES):
        for clip in clips[language][:3]:
            samples = clip.samples[: SAMPLE_RATE // (1 + index % 3)]
            asked = options(language=language if index % 2 else "auto", use_itn=bool(index % 2))
            batch.append(Clip(Span(0, samples), asked))
            batch.append(Clip(Span(0, clip.samples), asked))
    together = demo_engine.recognize(batch)
    for clip, among_others in zip(batch, together, strict=True):
        (alone,) = demo_engine.recognize([clip])
        assert [(t.id, t.start, t.end) for t in alone.tokens] == [
            (t.id, t.start, t.end) for t in among_others.tokens
        ]
        for tag in ("language", "emotion", "event"):
            one, other = getattr(alone.tags, tag), getattr(among_others.tags, tag)
            assert one.distribution == pytest.approx(other.distribution, abs=1e-3)


@pytest.mark.parametrize("allowed", ["zh", "en", "yue", "ja", "ko"])
def test_a_forced_language_is_the_answer(demo_engine, clips, allowed):
    for language in LANGUAGES:
        transcript = demo_engine.transcribe(
            Waveform(clips[language][1].samples), options(language=allowed)
        )
        assert transcript.language.label in {allowed, "nospeech"}


@pytest.mark.parametrize("allowed", ["zh,en", "ja,ko", "yue,nospeech", "en,zh,ja,ko"])
def test_languages_outside_the_set_are_never_answered(demo_engine, clips, allowed):
    for language in LANGUAGES:
        transcript = demo_engine.transcribe(
            Waveform(clips[language][2].samples), options(language=allowed, distributions=True)
        )
        labels = {*allowed.split(","), "nospeech"}
        assert transcript.language.label in labels
        assert set(transcript.segments[0].language.distribution) == labels


def test_a_set_that_holds_the_language_changes_nothing(demo_engine, clips):
    for language in LANGUAGES:
        samples = Waveform(clips[language][0].samples)
        free = demo_engine.transcribe(samples)
        others = next(code for code in LANGUAGES if code != free.language.label)
        if free.language.label in LANGUAGES:
            allowed = options(language=[free.language.label, others])
            assert demo_engine.transcribe(samples, allowed).text == free.text


def test_distributions_are_complete_and_sum_to_one(demo_engine, clips):
    transcript = demo_engine.transcribe(
        Waveform(clips["zh"][0].samples), options(distributions=True)
    )
    for holder in (transcript, *transcript.segments):
        for tag, labels in (
            (holder.language, LANGUAGE_LABELS),
            (holder.emotion, EMOTION_LABELS),
            (holder.event, EVENT_LABELS),
        ):
            assert set(tag.distribution) == set(labels)
            assert sum(tag.distribution.values()) == pytest.approx(1, abs=1e-4)
            assert tag.confidence == max(tag.distribution.values())


def test_an_unknown_emotion_can_be_banned(demo_engine, random_engine, shipped):
    """Of clips without speech the model knows no emotion."""
    asked = options(ban_emo_unk=True, distributions=True)
    for clip in [clip for clip in shipped if not clip.text][:6]:
        for engine in (demo_engine, random_engine):
            banned = engine.transcribe(Waveform(clip.samples), asked)
            assert banned.emotion.label != "EMO_UNKNOWN"
            assert "EMO_UNKNOWN" not in banned.emotion.distribution


def test_word_times_lie_in_order_within_the_audio(demo_engine, clips, transcripts):
    for language in LANGUAGES:
        clip = clips[language][0]
        transcript = demo_engine.transcribe(
            Waveform(clip.samples), options(timestamps="word", use_itn=False)
        )
        (segment,) = transcript.segments
        assert "".join(word.text for word in segment.words) == segment.text.replace(" ", "")
        assert segment.text == transcripts[language][0].text
        times = [t for word in segment.words for t in (word.start, word.end) if t is not None]
        assert times == sorted(times)
        assert all(0 <= t <= transcript.duration for t in times)
        assert all(0 < word.confidence <= 1 for word in segment.words if word.start is not None)


def test_words_start_where_the_speech_does(demo_engine, clips):
    """Three seconds of hiss in front move every word by three seconds."""
    clip = clips["en"][0]
    asked = options(timestamps="word", language="en")
    early = demo_engine.transcribe(Waveform(clip.samples), asked)
    late = demo_engine.transcribe(Waveform(np.concatenate([hiss(3.0, 1e-3), clip.samples])), asked)
    first, moved = early.segments[0].words[0], late.segments[0].words[0]
    assert moved.start - first.start == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize("asked", [{}, {"timestamps": "none"}, {"timestamps": "word"}])
def test_what_was_not_asked_for_is_not_answered(random_engine, asked):
    out = random_engine.transcribe(Waveform(hiss(1.0, 0.1)), options(**asked)).to_dict()
    assert ("segments" in out) is (asked.get("timestamps") != "none")
    assert all(
        ("words" in segment) is (asked.get("timestamps") == "word")
        for segment in out.get("segments", [])
    )
    assert "rich" not in out
    assert "distribution" not in out["language"]


def test_rich_text_is_given_when_asked_for(demo_engine, clips):
    transcript = demo_engine.transcribe(Waveform(clips["zh"][0].samples), options(rich=True))
    assert transcript.text in transcript.rich


def test_channels_are_transcribed_apart(demo_engine, clips, encode):
    """A call: one speaks English on the left, then one speaks Chinese on the right."""
    left, right = clips["en"][0].samples, clips["zh"][0].samples
    stereo = hiss(1.0, 1e-4)[None].repeat(2, axis=0)
    stereo = np.pad(stereo, ((0, 0), (0, len(left) + len(right))))
    stereo[0, : len(left)] += left
    stereo[1, len(left) : len(left) + len(right)] += right
    data = encode(stereo.clip(-1, 1), kind="flac")
    split = demo_engine.transcribe(data, options(channels="split"))
    assert [segment.channel for segment in split.segments] == [0, 1]
    for segment, channel in zip(split.segments, stereo, strict=True):
        alone = demo_engine.transcribe(encode(channel.clip(-1, 1), kind="flac"))
        assert segment.text == alone.text
    mixed = demo_engine.transcribe(data)
    assert [segment.channel for segment in mixed.segments] == [None]


def test_a_waveform_has_no_channels_to_split(random_engine):
    with pytest.raises(InvalidRequest, match="channels"):
        random_engine.transcribe(Waveform(hiss(1.0)), options(channels="split"))


@pytest.fixture(scope="module")
def long_audio(clips):
    """More than a minute of clips a second apart → samples, and (clip, first sample) of each."""
    pieces, placed, at = [hiss(1.0, 1e-4)], [], SAMPLE_RATE
    for index in range(5):
        for language in LANGUAGES:
            clip = clips[language][index % len(clips[language])]
            placed.append((clip, at))
            pieces += [clip.samples, hiss(1.0, 1e-4)]
            at += len(clip.samples) + SAMPLE_RATE
    samples = np.concatenate(pieces)
    assert len(samples) > 60 * SAMPLE_RATE
    return samples, placed


def words_of(transcript, offset=0.0):
    """(text, start, end) of every word that has times."""
    return [
        (word.text, round(word.start + offset, 3), round(word.end + offset, 3))
        for segment in transcript.segments
        for word in segment.words
        if word.start is not None
    ]


@pytest.fixture(scope="module", params=["vad", "overlap"])
def long_transcript(request, demo_engine, long_audio):
    asked = options(segmentation=request.param, use_itn=False, timestamps="word")
    return request.param, demo_engine.transcribe(Waveform(long_audio[0]), asked)


@pytest.fixture(scope="module")
def cut_at_pauses(demo_engine, long_audio):
    asked = options(segmentation="vad", use_itn=False)
    return demo_engine.transcribe(Waveform(long_audio[0]), asked)


def test_cutting_at_pauses_costs_little_accuracy(demo_engine, long_audio, cut_at_pauses):
    alone = [
        demo_engine.transcribe(Waveform(clip.samples), options(use_itn=False)).text
        for clip, _ in long_audio[1]
    ]
    wanted = ["".join(clip.text for clip, _ in long_audio[1])]
    cost = character_error_rate(wanted, [cut_at_pauses.text])
    assert cost <= character_error_rate(wanted, ["".join(alone)]) + 0.1


def test_a_segment_says_what_its_piece_of_the_audio_says(demo_engine, long_audio, cut_at_pauses):
    assert len(cut_at_pauses.segments) >= len(long_audio[1])
    for segment in cut_at_pauses.segments:
        first, last = round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)
        alone = demo_engine.transcribe(Waveform(long_audio[0][first:last]), options(use_itn=False))
        assert segment.text == alone.text


def test_segments_one_by_one_are_those_of_the_transcript(demo_engine, long_audio):
    asked = options(timestamps="word", distributions=True)
    recording = demo_engine.open(Waveform(long_audio[0]), asked)
    hypotheses = demo_engine.recognize(list(recording))
    one_by_one = [demo_engine.segment(hypothesis, asked) for hypothesis in hypotheses]
    assert tuple(one_by_one) == demo_engine.assemble(recording, hypotheses).segments


def test_joined_windows_say_what_each_window_says(demo_engine, long_audio):
    """Outside of what two windows share, exactly; within, no word that neither of them heard."""
    samples = long_audio[0][: round(55.98 * SAMPLE_RATE)]
    asked = options(segmentation="overlap", use_itn=False, timestamps="word")
    joined = words_of(demo_engine.transcribe(Waveform(samples), asked))
    step = round(25.98 * SAMPLE_RATE)
    left = words_of(demo_engine.transcribe(Waveform(samples[: 30 * SAMPLE_RATE]), asked))
    right = words_of(demo_engine.transcribe(Waveform(samples[step:]), asked), offset=25.98)
    assert [w for w in joined if w[2] < 25.9] == [w for w in left if w[2] < 25.9]
    assert [w for w in joined if w[1] > 30.1] == [w for w in right if w[1] > 30.1]
    # A word at the seam may be of both windows, so its characters are compared.
    heard = "".join(w[0] for w in left + right)
    assert all(character in heard for w in joined for character in w[0])
    shared = [[w for w in words if 25.98 <= w[1] < 30.0] for words in (joined, left, right)]
    assert len(shared[0]) <= len(shared[1]) + len(shared[2])


def test_segments_of_long_audio_are_in_place(long_audio, long_transcript):
    segmentation, transcript = long_transcript
    samples, placed = long_audio
    assert transcript.duration == len(samples) / SAMPLE_RATE
    for one, other in pairwise(transcript.segments):
        assert one.end <= other.start
    assert all(0 < s.end - s.start <= 30.0 for s in transcript.segments)
    if segmentation == "overlap":
        assert transcript.segments[0].start == 0
        assert transcript.segments[-1].end == transcript.duration
        assert all(one.end == other.start for one, other in pairwise(transcript.segments))
        return
    for clip, at in placed:
        middle = (at + len(clip.samples) / 2) / SAMPLE_RATE
        assert any(segment.start < middle < segment.end for segment in transcript.segments)


def test_words_of_long_audio_are_in_order_and_in_their_segments(long_transcript):
    _, transcript = long_transcript
    times = [
        time for s in transcript.segments for word in s.words for time in (word.start, word.end)
    ]
    times = [time for time in times if time is not None]
    assert times == sorted(times)
    for segment in transcript.segments:
        for word in segment.words:
            if word.start is not None:
                assert segment.start - 0.06 <= word.start <= word.end <= segment.end + 0.06


def test_progress_only_grows(random_engine):
    seen = []
    asked = options(segmentation="overlap")
    random_engine.transcribe(Waveform(hiss(250, 0.1)), asked, progress=seen.append)
    assert len(seen) >= 2
    assert seen == sorted(seen)
    assert seen[-1] == 250


@pytest.mark.usefixtures("loudness_detector")
def test_progress_only_grows_with_channels_apart(random_engine, encode):
    """One channel speaks for 125 s; the other hums too low for a voice."""
    stereo = np.stack([hiss(125, 0.1), hiss(125, 0.01)]).clip(-0.3, 0.3)
    stereo[1] = stereo[1].clip(-0.04, 0.04)
    seen = []
    transcript = random_engine.transcribe(
        encode(stereo), options(channels="split"), progress=seen.append
    )
    assert {segment.channel for segment in transcript.segments} == {0, 1}
    assert seen == sorted(seen)


def test_stage_times_are_within_the_wall_time(demo_engine, clips):
    started = time.perf_counter()
    transcript = demo_engine.transcribe(clips["en"][0].path.read_bytes())
    wall = time.perf_counter() - started
    stages = [getattr(transcript.times, name) for name in transcript.times.__slots__]
    assert all(stage >= 0 for stage in stages)
    assert 0 < math.fsum(stages) <= wall


def test_transcripts_are_json(demo_engine, clips):
    asked = options(timestamps="word", rich=True, distributions=True)
    out = demo_engine.transcribe(Waveform(clips["ja"][0].samples), asked).to_dict()
    assert json.loads(json.dumps(out, allow_nan=False)) == out


def test_warming_up_leaves_no_trace(random_engine):
    random_engine.warm_up()
    assert random_engine.transcribe(Waveform(np.zeros(100, "f4"))).text == ""
