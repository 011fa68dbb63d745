"""The whole path on one page: audio → clips → features → encoder → tokens and tags → Transcript."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from predictor.engine import audio
from predictor.engine.assembly import Hypothesis, assemble
from predictor.engine.checkpoint import Checkpoint
from predictor.engine.decoding import Tags, decode_tags, decode_tokens
from predictor.engine.encoder import N_QUERIES
from predictor.engine.errors import InvalidRequest
from predictor.engine.recording import Clip, Recording, batches
from predictor.engine.segment import VAD_WINDOW, load_detector, one_torch_thread
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

    ``open`` and ``assemble`` may be called from any thread; ``recognize`` from one at a time.

    Args:
        model_dir: prepared model directory, made by ``python -m predictor prepare``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        max_audio_seconds: longest audio taken.
        max_audio_bytes: largest encoded audio taken.

    Attributes:
        model: what is loaded.

    Raises:
        InvalidModel: a file is missing, altered or of another architecture.
    """

    def __init__(
        self,
        model_dir: Path,
        device: str = "cpu",
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
        self._device = torch.device(device)
        self._max_audio_seconds = max_audio_seconds
        self._max_audio_bytes = max_audio_bytes
        self.tokenizer = checkpoint.tokenizer
        self.frontend = checkpoint.frontend(self._device)
        self.network = checkpoint.network(self._device)

    def warm_up(self) -> None:
        """Run a second of noise, so that the first request does not pay for lazy initialisation."""
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
        self.transcribe(Waveform(noise))
        detector = load_detector()
        with one_torch_thread():
            for start in range(0, 4 * VAD_WINDOW, VAD_WINDOW):
                detector(torch.from_numpy(noise[start : start + VAD_WINDOW]))

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
        return assemble(
            recording, hypotheses, self.tokenizer, self.frontend.config.seconds_per_frame
        )

    def open(self, source: bytes | Waveform, options: TranscribeOptions) -> Recording:
        """Start decoding. Iterating the recording decodes and cuts on, lazily.

        Raises:
            InvalidAudio, AudioTooLarge: found at once; damage further on is raised while iterating.
        """
        if isinstance(source, Waveform):
            if options.channels == "split":
                raise InvalidRequest("channels: a waveform has one channel, 'split' needs a file")
            return Recording(audio.from_waveform(source, self._max_audio_seconds), options)
        audio.check_size(source, self._max_audio_bytes)
        split = options.channels == "split"
        return Recording(audio.decode(source, self._max_audio_seconds, split), options)

    @torch.inference_mode()
    def recognize(self, clips: Sequence[Clip]) -> list[Hypothesis]:
        """One network batch. A clip's result does not depend on its neighbours."""
        started = time.perf_counter()
        features = [
            self.frontend(torch.from_numpy(clip.span.samples).to(self._device)) for clip in clips
        ]
        featured = time.perf_counter()
        languages = [_query_language(clip.options) for clip in clips]
        encoded = self._encode(features, languages, clips)
        self._force_allowed_languages(features, encoded, clips)
        encoded_at = time.perf_counter()
        outputs = [
            (decode_tokens(self.network.ctc, frames[N_QUERIES:]), self._tags(frames, clip.options))
            for frames, clip in zip(encoded, clips, strict=True)
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

    def _encode(
        self, features: Sequence[Tensor], languages: Sequence[str], clips: Sequence[Clip]
    ) -> list[Tensor]:
        """Features float32 [n_frames, size] each → encoder output [4 + n_frames, width] each."""
        n_frames = torch.tensor([len(x) for x in features], device=self._device)
        textnorm = [TEXTNORM_QUERIES[clip.options.use_itn] for clip in clips]
        encoded = self.network.encode(
            pad_sequence(list(features), batch_first=True),
            n_frames,
            torch.tensor([LANGUAGE_QUERIES[code] for code in languages], device=self._device),
            torch.tensor(textnorm, device=self._device),
        )
        return [out[: N_QUERIES + len(x)] for out, x in zip(encoded, features, strict=True)]

    def _force_allowed_languages(
        self, features: Sequence[Tensor], encoded: list[Tensor], clips: Sequence[Clip]
    ) -> None:
        """Encode again, in place, the clips whose language is outside their caller's set.

        Restricting the tag alone would leave the text in the language the network had chosen.
        """
        again: list[tuple[int, str]] = []
        for index, clip in enumerate(clips):
            allowed = _allowed_languages(clip.options)
            if _query_language(clip.options) != AUTO or len(allowed) == len(LANGUAGE_LABELS):
                continue
            free = decode_tags(
                self.network.ctc, encoded[index], self.tokenizer, LANGUAGE_LABELS
            ).language
            if free.label not in allowed and free.distribution:
                best = max(set(allowed) - {NO_SPEECH}, key=free.distribution.__getitem__)
                again.append((index, best))
        if again:
            indices = [index for index, _ in again]
            outputs = self._encode(
                [features[index] for index in indices],
                [language for _, language in again],
                [clips[index] for index in indices],
            )
            for index, output in zip(indices, outputs, strict=True):
                encoded[index] = output

    def _tags(self, frames: Tensor, options: TranscribeOptions) -> Tags:
        return decode_tags(
            self.network.ctc,
            frames,
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


def _query_language(options: TranscribeOptions) -> str:
    """What the network is told: the one allowed language, or to choose by itself."""
    if options.language == (NO_SPEECH,):
        return NO_SPEECH
    spoken = _spoken(options)
    return spoken[0] if len(spoken) == 1 else AUTO
