"""A ``multipart/form-data`` body with one file → its fields and the file's bytes, as they arrive.

Starlette's own parser puts files on a disk, which a pod may not have, and reads them back. This one holds
the file once, in memory that the body's limit and budget have counted already.
"""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from predictor.engine.errors import AudioTooLarge, InvalidRequest
from predictor.server.errors import quoted

MAX_FIELDS = 64
"""Most fields of a form."""

MAX_FIELD_BYTES = 64 * 1024
"""Longest value of a field that is no file: a prompt is the longest there is."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a form held.

    Attributes:
        fields: name → its values, in order; a name's trailing ``[]`` is left out.
        files: name → bytes of the file. A field named as one counts as a file, whether it says so or not.
    """

    fields: dict[str, list[str]]
    files: dict[str, bytes]


async def read_form(content_type: str, body: AsyncIterator[bytes], file_field: str) -> Form:
    """Read a form to its end.

    Args:
        content_type: header of the request.
        body: blocks of the body.
        file_field: name of the one field that may be a file.

    Raises:
        InvalidRequest: no form, a broken one, two files, or too many fields.
        AudioTooLarge: a field that is no file is too long.
    """
    kind, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest("Content-Type: must be multipart/form-data with a boundary")
    reader = _Reader(file_field)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        async for block in body:
            parser.write(block)
        parser.finalize()
    except FormParserError:
        raise InvalidRequest("body: not a valid multipart form") from None
    if not reader.complete:
        raise InvalidRequest("body: the multipart form ends before its closing boundary")
    return Form(reader.fields, reader.files)


@dataclass(slots=True)
class _Reader:
    """Takes what the parser finds."""

    file_field: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    n_fields: int = 0
    name: str = ""
    header: bytes = b""
    value: bytes = b""
    disposition: bytes = b""
    data: io.BytesIO = field(default_factory=io.BytesIO)

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self.on_part_begin,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_headers_finished": self.on_headers_finished,
            "on_part_data": self.on_part_data,
            "on_part_end": self.on_part_end,
            "on_end": self.on_end,
        }

    def on_part_begin(self) -> None:
        self.n_fields += 1
        if self.n_fields > MAX_FIELDS:
            raise InvalidRequest(f"body: more than {MAX_FIELDS} fields, which is the limit")
        self.disposition, self.data = b"", io.BytesIO()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value
        self.header = self.value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self.disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name:
            raise InvalidRequest("body: a part of the form has no name")
        self.name = name.removesuffix("[]")
        if b"filename" in options and self.name != self.file_field:
            raise InvalidRequest(
                f"body: field {quoted(self.name)} is a file; only '{self.file_field}' may be one"
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self.name != self.file_field and self.data.tell() + end - start > MAX_FIELD_BYTES:
            raise AudioTooLarge(f"{self.name[:40]}: the limit is {MAX_FIELD_BYTES} bytes")
        self.data.write(memoryview(data)[start:end])

    def on_part_end(self) -> None:
        if self.name != self.file_field:
            text = self.data.getvalue().decode("utf-8", "replace")
            self.fields.setdefault(self.name, []).append(text)
        elif self.name in self.files:
            raise InvalidRequest(f"{self.name}: given twice; send one file a request")
        else:
            # Unlike a bytearray, this gives its bytes away without copying them once more.
            self.files[self.name] = self.data.getvalue()

    def on_end(self) -> None:
        self.complete = True
