"""Live audio over a websocket: ``realtime_client.py FILE [ws://localhost:8080]``.

Sends a file as a microphone would: a tenth of a second of 16-bit PCM every tenth of a second.
"""

import asyncio
import json
import sys

import av
import websockets

RATE = 16_000
TENTH = RATE // 10 * 2
"""Bytes."""


def pcm(file: str) -> bytes:
    """16-bit PCM of a file, mono, with a second of silence behind it to end the last turn."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(file) as container:
        frames = [*container.decode(audio=0), None]
        pieces = [out.to_ndarray().tobytes() for each in frames for out in resampler.resample(each)]
    return b"".join(pieces) + bytes(10 * TENTH)


async def send(socket: websockets.ClientConnection, audio: bytes) -> None:
    for at in range(0, len(audio), TENTH):
        await socket.send(audio[at : at + TENTH])
        await asyncio.sleep(0.1)


async def main(file: str, server: str = "ws://localhost:8080") -> None:
    url = f"{server}/v1/realtime?intent=transcription"
    # A ping waits behind audio that a busy server is still to take.
    async with websockets.connect(url, ping_timeout=None) as socket:
        audio_input = {
            "format": {"type": "audio/pcm", "rate": RATE},
            "turn_detection": {"silence_duration_ms": 500},
        }
        update = {"type": "session.update", "session": {"audio": {"input": audio_input}}}
        await socket.send(json.dumps(update))
        sending = asyncio.create_task(send(socket, pcm(file)))
        async for message in socket:
            event = json.loads(message)
            match event["type"].removeprefix("conversation.item.input_audio_transcription."):
                case "delta" if "partial" in event:
                    print("...", event["partial"])
                case "completed":
                    print(event["transcript"], event["emotion"], event["event"])
                    if sending.done():
                        break
                case "error" | "failed":
                    sys.exit(event["error"]["message"])
                case "input_audio_buffer.committed":
                    await sending


asyncio.run(main(*sys.argv[1:]))
