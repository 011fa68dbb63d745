"""The whole path on one page: audio → clips → features → encoder → tokens and tags → Transcript."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from predictor.engine import audio
from predictor.engine.assembly import Hypothesis, assemble, segment
from predictor.engine.checkpoint import Checkpoint
from predictor.engine.cpu import available_cpus
from predictor.engine.decoding import Tags, decode_tags, decode_tokens
from predictor.engine.errors import InvalidRequest
from predictor.engine.network import Precision, Queries
from predictor.engine.recording import Clip, Recording, batches
from predictor.engine.tokenizer import (
    EMOTION_LABELS,
    EVENT_LABELS,
    LANGUAGE_LABELS,
    UNKNOWN_EMOTION,
)
from predictor.engine.types import (
    AUTO,
    NO_SPEECH,
    SAMPLE_RATE,
    SPOKEN_LANGUAGES,
    Segment,
    StageTimes,
    TranscribeOptions,
    Transcript,
    Waveform,
)

LANGUAGE_QUERIES = {AUTO: 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12, NO_SPEECH: 13}
"""Rows of the query embedding (SenseVoice's ``lid_dict``)."""

TEXTNORM_QUERIES = {True: 14, False: 15}
"""Rows of the query embedding with and without inverse text normalisation."""

BATCH_SECONDS = 120.0
"""Padded audio in one network batch of :meth:`Engine.transcribe`."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is being served. ``digest`` is the sha256 of the model's files, ``notice`` what every user
    must be told (empty for most models)."""

    name: str
    version: str
    digest: str
    notice: str
    languages: tuple[str, ...] = LANGUAGE_LABELS
    emotions: tuple[str, ...] = EMOTION_LABELS
    events: tuple[str, ...] = EVENT_LABELS


class Engine:
    """A loaded model.

    ``open`` and ``assemble`` may be called from any thread, ``recognize`` from ``passes`` at a time.

    Args:
        model_dir: prepared model directory, made by ``python -m predictor prepare``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: of the network; the best for the device and the model unless given.
        threads: CPU threads of one pass of the network; the CPUs this process may use unless given.
        passes: passes that may run at once.
        max_audio_seconds: longest audio taken.
        max_audio_bytes: largest encoded audio taken.

    Attributes:
        model: what is loaded.
        precision: what the network runs in.
        passes: how many threads may call :meth:`recognize` at once.

    Raises:
        InvalidModel: a file is missing, altered or of another architecture.
    """

    def __init__(
        self,
        model_dir: Path,
        device: str = "cpu",
        precision: Precision | None = None,
        threads: int | None = None,
        passes: int = 1,
        max_audio_seconds: float = 4 * 3600.0,
        max_audio_bytes: int = 512 << 20,
    ) -> None:
        checkpoint = Checkpoint(model_dir)
        self.model = ModelInfo(
            checkpoint.manifest.name,
            checkpoint.manifest.version,
            checkpoint.manifest.digest,
            checkpoint.manifest.notice,
        )
        self._max_audio_seconds = max_audio_seconds
        self._max_audio_bytes = max_audio_bytes
        self._seconds_per_frame = checkpoint.frontend_config.seconds_per_frame
        self.tokenizer = checkpoint.tokenizer
        self.precision = precision or checkpoint.best_precision(device)
        self.passes = passes
        self.network = checkpoint.network(
            device, self.precision, threads or available_cpus(), self.passes
        )

    def warm_up(self) -> None:
        """Run a second of noise, so that the first request does not pay for lazy initialisation."""
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
        self.transcribe(Waveform(noise))

    def transcribe(
        self,
        source: bytes | Waveform,
        options: TranscribeOptions | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """One audio → its transcript, in bounded memory however long it is.

        Args:
            source: an encoded file, or samples float32 [n_samples] in [-1, 1] at any rate.
            options: defaults unless given.
            progress: called after each batch with the seconds of audio done so far.

        Raises:
            SpeechError: see :mod:`predictor.engine.errors`.
        """
        recording = self.open(source, options or TranscribeOptions())
        hypotheses: list[Hypothesis] = []
        for batch in batches(recording, BATCH_SECONDS):
            hypotheses += self.recognize(batch)
            if progress:
                progress(max(hypothesis.end for hypothesis in hypotheses))
        return self.assemble(recording, hypotheses)

    def assemble(self, recording: Recording, hypotheses: Sequence[Hypothesis]) -> Transcript:
        """The hypotheses of an exhausted recording's clips, in the clips' order → its transcript."""
        return assemble(recording, hypotheses, self.tokenizer, self._seconds_per_frame)

    def segment(self, hypothesis: Hypothesis, options: TranscribeOptions) -> Segment:
        """One hypothesis → its segment, before the rest is known. Not for ``overlap`` segmentation,
        where windows share out their words at the end."""
        return segment(hypothesis, options, self.tokenizer, self._seconds_per_frame)

    def open(
        self,
        source: bytes | Waveform,
        options: TranscribeOptions,
        decode: audio.Decode = audio.decode,
    ) -> Recording:
        """Start decoding. Iterating the recording decodes and cuts on, lazily.

        Args:
            source: as for :meth:`transcribe`.
            options: what the caller wants.
            decode: what decodes a file: the bytes, the longest audio taken in seconds, whether to keep
                channels apart → blocks as of :class:`Recording`.

        Raises:
            InvalidAudio, AudioTooLarge: found at once; damage further on is raised while iterating.
        """
        if isinstance(source, Waveform):
            if options.channels == "split":
                raise InvalidRequest("channels: a waveform has one channel, 'split' needs a file")
            return Recording(audio.from_waveform(source, self._max_audio_seconds), options)
        audio.check_size(source, self._max_audio_bytes)
        split = options.channels == "split"
        return Recording(decode(source, self._max_audio_seconds, split), options)

    def recognize(self, clips: Sequence[Clip]) -> list[Hypothesis]:
        """One network batch. A clip's result does not depend on its neighbours.

        Raises:
            OutOfMemory: so many clips do not fit; the memory they took is free again.
            DeviceLost: this engine will never recognise anything again.
        """
        try:
            return self._recognize(clips)
        except Exception as error:
            failure = self.network.failure(error)
            if failure is None:
                raise
        raise failure

    def _recognize(self, clips: Sequence[Clip]) -> list[Hypothesis]:
        started = time.perf_counter()
        features = [self.network.features(clip.span.samples) for clip in clips]
        featured = time.perf_counter()
        queries = [_queries(clip.options) for clip in clips]
        encoded = self.network.encode(features, queries)
        self._force_allowed_languages(features, encoded, clips)
        encoded_at = time.perf_counter()
        paths = self.network.best_paths(encoded)
        outputs = [
            (decode_tokens(path), self._tags(output, clip.options))
            for path, output, clip in zip(paths, encoded, clips, strict=True)
        ]
        times = StageTimes(
            features=featured - started,
            encoder=encoded_at - featured,
            decoding=time.perf_counter() - encoded_at,
        )
        total = sum(clip.duration for clip in clips)
        return [
            Hypothesis(
                clip.span.start / SAMPLE_RATE,
                clip.span.start / SAMPLE_RATE,
                clip.span.end / SAMPLE_RATE,
                clip.span.speech,
                clip.channel,
                tuple(tokens),
                tags,
                times * (clip.duration / total),
            )
            for clip, (tokens, tags) in zip(clips, outputs, strict=True)
        ]

    def _force_allowed_languages(
        self, features: Sequence[Any], encoded: list[Any], clips: Sequence[Clip]
    ) -> None:
        """Encode again, in place, the clips whose language is outside their caller's set.

        Restricting the tag alone would leave the text in the language the network had chosen.
        """
        again: list[tuple[int, Queries]] = []
        for index, clip in enumerate(clips):
            allowed = _allowed_languages(clip.options)
            queries = _queries(clip.options)
            if queries.language != LANGUAGE_QUERIES[AUTO] or len(allowed) == len(LANGUAGE_LABELS):
                continue
            logits = self.network.tag_logits(encoded[index])
            free = decode_tags(logits, self.tokenizer, LANGUAGE_LABELS).language
            if free.label not in allowed and free.distribution:
                best = max(set(allowed) - {NO_SPEECH}, key=free.distribution.__getitem__)
                again.append((index, replace(queries, language=LANGUAGE_QUERIES[best])))
        if again:
            outputs = self.network.encode(
                [features[index] for index, _ in again], [queries for _, queries in again]
            )
            for (index, _), output in zip(again, outputs, strict=True):
                encoded[index] = output

    def _tags(self, encoded: Any, options: TranscribeOptions) -> Tags:
        return decode_tags(
            self.network.tag_logits(encoded),
            self.tokenizer,
            _allowed_languages(options),
            (UNKNOWN_EMOTION,) if options.ban_emo_unk else (),
        )


def _spoken(options: TranscribeOptions) -> list[str]:
    return [code for code in options.language if code in SPOKEN_LANGUAGES]


def _allowed_languages(options: TranscribeOptions) -> tuple[str, ...]:
    """Labels to choose among. ``nospeech`` is always one: a language set says nothing of silence."""
    if options.language == (AUTO,):
        return LANGUAGE_LABELS
    return (*_spoken(options), NO_SPEECH)


def _queries(options: TranscribeOptions) -> Queries:
    """What the network is told: the one allowed language, or to choose by itself."""
    spoken = _spoken(options)
    language = spoken[0] if len(spoken) == 1 else AUTO
    if options.language == (NO_SPEECH,):
        language = NO_SPEECH
    return Queries(LANGUAGE_QUERIES[language], TEXTNORM_QUERIES[options.use_itn])
