import io
import wave

import numpy as np

from predictor.ui.waveform import POINTS, STEP, outline

RATE = 16_000


def encode(samples):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def test_peaks_stand_where_the_sound_is():
    samples = np.zeros(60 * RATE)
    samples[30 * RATE : 40 * RATE] = 0.25
    samples[50 * RATE] = -0.5
    found = np.array(outline(encode(samples)))
    assert len(found) == POINTS
    loud = np.flatnonzero(found > 0.4)
    assert loud[0] == POINTS // 2
    assert found[int(POINTS * 35 / 60)] == 0.5
    assert found[int(POINTS * 50 / 60)] == 1
    assert found[:500].max() == 0


def test_short_files_have_a_point_for_every_step():
    assert len(outline(encode(np.full(10 * STEP + 1, 0.1)))) == 11


def test_silence_is_flat_and_noise_on_the_wire_is_nothing():
    assert set(outline(encode(np.zeros(RATE)))) == {0.0}
    assert outline(b"no audio") == []
