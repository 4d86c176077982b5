"""What a request carries: parameters from query, form, multipart or JSON, read as leniently as the server does."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from python_multipart.multipart import MultipartParser, parse_options_header

_INTEGER = re.compile(r"-?\d*")
_TRUE = ("true", "yes", "1")
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

MAX_PARAMETER_BYTES = 1 << 20
MAX_FILES = 50


class MalformedBody(Exception):
    """The HTTP reader gives up on this body; `status` is what it answers."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a multipart body. The content type is the client's claim."""

    file_name: str
    content_type: str
    data: bytes


@dataclass(slots=True)
class Arguments:
    """Parameters by name. Reading never fails: nonsense counts as the default, then the range applies."""

    values: dict[str, str] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def integer(self, name: str, default: int = 0, low: int | None = None, high: int | None = None) -> int:
        """Optional minus sign and leading digits count, the rest does not; no digits mean 0, empty the default."""
        value = default
        raw = self.values.get(name)
        if raw:
            digits = _leading_digits(raw)
            value = int(digits) if digits not in ("", "-") else 0
        if low is not None and value < low:
            return low
        return high if high is not None and value > high else value

    def boolean(self, name: str) -> bool:
        return self.values.get(name, "").lower() in _TRUE

    def json(self, name: str) -> Any:
        """The parsed JSON of a parameter; None when absent, empty or not JSON."""
        raw = self.values.get(name)
        if not raw:
            return None
        try:
            return msgspec.json.decode(raw)
        except msgspec.DecodeError:
            return None

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """The first value of a name wins."""
        for name, value in pairs:
            self.values.setdefault(name, value)


def _leading_digits(raw: str) -> str:
    found = _INTEGER.match(raw)
    return found.group() if found else ""


def parse_arguments(query: bytes, content_type: str, body: bytes) -> Arguments:
    """Raises: MalformedBody, when a reader limit is passed or a multipart body is broken."""
    arguments = Arguments()
    if query:
        arguments.add(parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True))
    if body:
        _read_body(arguments, content_type, body)
    if len(query) + sum(map(len, arguments.values.values())) > MAX_PARAMETER_BYTES:
        raise MalformedBody(413)
    return arguments


def _read_body(arguments: Arguments, content_type: str, body: bytes) -> None:
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        arguments.add(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    elif kind == "multipart/form-data":
        _read_multipart(arguments, content_type, body)
    elif kind == "application/json":
        arguments.add(_json_pairs(body))


def _json_pairs(body: bytes) -> list[tuple[str, str]]:
    try:
        members = _raw_object.decode(body)
    except msgspec.DecodeError:
        return _pairs_before_the_fault(body.decode("utf-8", "replace"))
    pairs = [(name, bytes(raw).decode()) for name, raw in members.items()]
    return [(name, json.loads(raw) if raw[:1] == '"' else raw) for name, raw in pairs if raw != "null"]


def _pairs_before_the_fault(text: str) -> list[tuple[str, str]]:
    """Malformed JSON is no error: the members up to the fault count."""
    decoder, pairs = json.JSONDecoder(), []
    position = _skip(text, 0, "{")
    try:
        while True:
            name, position = decoder.raw_decode(text, position)
            start = _skip(text, position, ":")
            value, position = decoder.raw_decode(text, start)
            pairs.append((str(name), value if isinstance(value, str) else text[start:position]))
            position = _skip(text, position, ",")
    except ValueError:
        return pairs


def _skip(text: str, position: int, mark: str) -> int:
    """The position after optional blanks, the mark and blanks; the end of the text when the mark is missing."""
    while position < len(text) and text[position].isspace():
        position += 1
    if text[position : position + 1] != mark:
        return len(text)
    position += 1
    while position < len(text) and text[position].isspace():
        position += 1
    return position


class _Parts:
    """Collects the parts of one multipart body; the parser calls its methods."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._headers: dict[str, str] = {}
        self._name = b""
        self._value = b""
        self._data: list[bytes] = []
        self.is_complete = False

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self.begin,
            "on_header_field": self.header_name,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_part_data": self.part_data,
            "on_part_end": self.end,
            "on_end": self.finish,
        }

    def begin(self) -> None:
        self._headers, self._data = {}, []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._name = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def finish(self) -> None:
        self.is_complete = True

    def end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        data = b"".join(self._data)
        if b"filename" not in options:
            self._arguments.add([(name, data.decode("utf-8", "replace"))])
            return
        if len(self._arguments.files) >= MAX_FILES:
            raise MalformedBody(413)
        file_name = options[b"filename"].decode("utf-8", "replace")
        content_type = self._headers.get("content-type", "application/octet-stream")
        self._arguments.files.setdefault(name, Upload(file_name, content_type, data))


def _read_multipart(arguments: Arguments, content_type: str, body: bytes) -> None:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedBody(400)
    parts = _Parts(arguments)
    parser = MultipartParser(boundary, parts.callbacks())
    try:
        parser.write(body)
        parser.finalize()
    except ValueError as error:  # python-multipart's errors are ValueErrors
        raise MalformedBody(400) from error
    if not parts.is_complete:
        raise MalformedBody(400)
