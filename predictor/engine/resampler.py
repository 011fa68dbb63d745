"""Frames of any rate and sample format → packed float32 at 16 kHz.

PyAV's own resampler leaves the number of threads to FFmpeg, which starts one for each CPU of the machine,
for every file and every live stream, and gives them nothing to do.
"""

from typing import cast

import av
from av.audio.frame import AudioFrame
from av.filter.graph import Graph

from predictor.engine.types import SAMPLE_RATE

FORMAT = "flt"
"""Packed, because PyAV reads past the plane pointers of a planar frame of eight channels."""


class Resampler:
    """Resamples one stream, in the thread that calls it; its frames are all of the first one's kind."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[str, str, int] | None = None

    def resample(self, frame: AudioFrame | None) -> list[AudioFrame]:
        """What is certain with this frame; with None, what is left, after which nothing may come.

        Raises:
            ValueError: the frame is of another kind than the first one.
            av.FFmpegError: FFmpeg cannot resample it.
        """
        if frame is not None:
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._kind is None:
                self._kind = kind
                if kind != (FORMAT, frame.layout.name, SAMPLE_RATE):
                    self._graph = _graph(*kind)
            if kind != self._kind:
                raise ValueError(f"a frame of {kind} follows one of {self._kind}")
        if self._graph is None:
            return [] if frame is None else [frame]
        self._graph.push(frame)
        frames = []
        while True:
            try:
                frames.append(cast(AudioFrame, self._graph.pull()))
            except (av.BlockingIOError, EOFError):
                return frames


def _graph(sample_format: str, layout: str, rate: int) -> Graph:
    graph = Graph()
    graph.threads = 1
    # The time base only scales timestamps, which nobody reads.
    source = graph.add(
        "abuffer",
        sample_rate=str(rate),
        sample_fmt=sample_format,
        channel_layout=layout,
        time_base=f"1/{rate}",
    )
    wanted = graph.add(
        "aformat", sample_rates=str(SAMPLE_RATE), sample_fmts=FORMAT, channel_layouts=layout
    )
    sink = graph.add("abuffersink")
    source.link_to(wanted)
    wanted.link_to(sink)
    graph.configure()
    return graph
