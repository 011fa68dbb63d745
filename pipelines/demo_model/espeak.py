"""The espeak-ng library. Unlike the program of that name it tells when each word starts."""

import ctypes

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class EspeakError(RuntimeError):
    """espeak-ng does not start, or has no such voice."""


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of ``speak_lib.h``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_EVENT_WORD = 1
_OUTPUT_SYNCHRONOUS = 2
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_CHARS_UTF8 = 1


class Espeak:
    """One voice at a time; the library is global, so one object a process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self._rate = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, None, 0)
        if self._rate <= 0:
            raise EspeakError("espeak-ng does not start")
        self._audio = bytearray()
        self._words: list[tuple[int, float]] = []
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(
        self, wave: ctypes.Array[ctypes.c_short], count: int, events: ctypes.Array[_Event]
    ) -> int:
        if wave and count > 0:
            self._audio += ctypes.string_at(wave, count * 2)
        i = 0
        while events[i].type != 0:
            if events[i].type == _EVENT_WORD and events[i].text_position > 0:
                word = (events[i].text_position - 1, events[i].audio_position / 1000)
                self._words.append(word)
            i += 1
        return 0

    def say(
        self, text: str, voice: str, rate: float, pitch: float, pitch_range: float
    ) -> tuple[Samples, int, list[tuple[int, float]]]:
        """Synthesise ``text``.

        Args:
            text: one clause.
            voice: ``language+variant``.
            rate: words a minute, at least 80.
            pitch: 0 to 99; 50 is the voice's own.
            pitch_range: 0 (monotone) to 99; 50 is the voice's own.

        Returns:
            Samples, their rate in hertz, and (offset in ``text``, seconds) of each word's start.
        """
        self._audio.clear()
        self._words.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise EspeakError(f"espeak-ng has no voice {voice!r}")
        settings = {
            _PARAMETER_RATE: max(80.0, rate),
            _PARAMETER_PITCH: min(99.0, max(0.0, pitch)),
            _PARAMETER_RANGE: min(99.0, max(0.0, pitch_range)),
        }
        for parameter, value in settings.items():
            self._library.espeak_SetParameter(parameter, round(value), 0)
        content = text.encode() + b"\0"
        self._library.espeak_Synth(content, len(content), 0, 0, 0, _CHARS_UTF8, None, None)
        samples = np.frombuffer(bytes(self._audio), np.int16).astype(np.float32)
        samples /= np.float32(32768)
        return samples, self._rate, list(self._words)
