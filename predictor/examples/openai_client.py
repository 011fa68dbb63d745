"""OpenAI's Python client: ``openai_client.py FILE [http://localhost:8080]``."""

import sys
from pathlib import Path

from openai import OpenAI


def main(file: str, server: str = "http://localhost:8080") -> None:
    # The key is not looked at, but the client wants one.
    client = OpenAI(base_url=f"{server}/v1", api_key="none")
    answer = client.audio.transcriptions.create(
        model="sensevoice",
        file=Path(file),
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    print(answer.text)
    for segment in answer.segments or []:
        # What SenseVoice hears beside words; not of OpenAI's API, and so not in its types.
        heard = segment.model_extra or {}
        print(segment.start, segment.end, segment.text, heard["emotion"], heard["event"])

    for event in client.audio.transcriptions.create(
        model="sensevoice", file=Path(file), stream=True
    ):
        if event.type == "transcript.text.delta":
            print(event.delta, end="", flush=True)
    print()


main(*sys.argv[1:])
