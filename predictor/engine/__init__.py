"""The speech library: bytes of an audio file in, a ``Transcript`` out. It knows no server."""
