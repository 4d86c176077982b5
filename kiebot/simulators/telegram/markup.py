"""Formatted text: HTML and Markdown to plain text with entities (offsets in UTF-16 units), and length limits."""

import html
import re
from dataclasses import dataclass, field

from kiebot.simulators.telegram.answers import Json, refuse
from kiebot.simulators.telegram.arguments import Arguments

MAX_TEXT = 4096
MAX_CAPTION = 1024

_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "code": "code",
    "pre": "pre",
    "a": "text_link",
    "blockquote": "blockquote",
    "tg-emoji": "custom_emoji",
}
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)((?:\s[^<>]*)?)>")
_ATTRIBUTE = re.compile(r"([a-zA-Z-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_KNOWN_REFERENCE = re.compile(r"&(?:lt|gt|amp|quot|#\d+|#x[0-9a-fA-F]+);")
_RESERVED = frozenset("_*[]()~`>#+-=|{}.!")
_MARKS = {
    "*": "bold",
    "_": "italic",
    "__": "underline",
    "~": "strikethrough",
    "||": "spoiler",
    "`": "code",
    "```": "pre",
    "[": "text_link",
}
_NAMES = {"text_link": "TextUrl", "strikethrough": "Strikethrough", "pre": "PreCode"}


@dataclass(frozen=True, slots=True)
class FormattedText:
    """Plain text and where it is bold, linked and so on."""

    text: str
    entities: list[Json] = field(default_factory=list)


def utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def read_text(arguments: Arguments, name: str = "text") -> FormattedText:
    """The text of a message. Raises: ApiError, when it is empty, blank, too long or badly marked up."""
    raw = arguments.text(name)
    if not raw:
        refuse("message text is empty")
    formatted = read_formatted(raw, arguments.text("parse_mode"), arguments.json("entities"))
    if not formatted.text:
        refuse("text must be non-empty")
    if len(formatted.text) > MAX_TEXT:
        refuse("message is too long")
    return formatted


def read_caption(raw: str, parse_mode: str, entities: object) -> FormattedText:
    """Raises: ApiError, when the caption is too long or badly marked up."""
    formatted = read_formatted(raw, parse_mode, entities)
    if len(formatted.text) > MAX_CAPTION:
        refuse("message caption is too long")
    return formatted


def read_formatted(raw: str, parse_mode: str, entities: object) -> FormattedText:
    mode = parse_mode.lower()
    if mode == "html":
        return _trimmed(_parse_html(raw))
    if mode == "markdownv2":
        return _trimmed(_MarkdownReader(raw).read())
    if mode == "markdown":
        return _trimmed(_MarkdownReader(raw, is_legacy=True).read())
    if mode and mode != "none":
        refuse("unsupported parse_mode")
    given = [entity for entity in entities if isinstance(entity, dict)] if isinstance(entities, list) else []
    return _trimmed(FormattedText(raw, given))


def _trimmed(formatted: FormattedText) -> FormattedText:
    text = formatted.text.rstrip()
    if not text.strip():
        return FormattedText("")
    end = utf16_length(text)
    entities = []
    for entity in sorted(formatted.entities, key=lambda e: (e.get("offset", 0), -e.get("length", 0))):
        length = min(entity.get("length", 0), end - entity.get("offset", 0))
        if length > 0:
            entities.append({**entity, "length": length})
    return FormattedText(text, entities)


def _at_byte(raw: str, position: int) -> int:
    return len(raw[:position].encode())


@dataclass(slots=True)
class _Open:
    """An entity that has begun: its mark, the offset in the result, the position in the source."""

    mark: str
    offset: int
    position: int
    facts: Json


def _parse_html(raw: str) -> FormattedText:
    out: list[str] = []
    entities: list[Json] = []
    opened: list[_Open] = []
    length = position = 0
    while position < len(raw):
        if raw[position] == "<":
            tag = _TAG.match(raw, position)
            if tag is None:
                refuse(f"can't parse entities: Unclosed start tag at byte offset {_at_byte(raw, position)}")
            if tag[1]:
                _close_tag(raw, tag, opened, entities, length)
            else:
                opened.append(_open_tag(raw, tag, length))
            position = tag.end()
            continue
        end = raw.find("<", position)
        end = len(raw) if end < 0 else end
        piece = _KNOWN_REFERENCE.sub(lambda found: html.unescape(found[0]), raw[position:end])
        out.append(piece)
        length += utf16_length(piece)
        position = end
    if opened:
        refuse(f"can't parse entities: Can't find end tag corresponding to start tag \"{opened[-1].mark}\"")
    return FormattedText("".join(out), entities)


def _open_tag(raw: str, tag: re.Match[str], length: int) -> _Open:
    name = tag[2].lower()
    attributes = {key.lower(): html.unescape(one or other) for key, one, other in _ATTRIBUTE.findall(tag[3])}
    if name not in _TAGS or (name == "span" and attributes.get("class") != "tg-spoiler"):
        place = _at_byte(raw, tag.start())
        refuse(f'can\'t parse entities: Unsupported start tag "{name}" at byte offset {place}')
    facts: Json = {"type": _TAGS[name]}
    if name == "a":
        facts["url"] = attributes.get("href", "")
    if name == "tg-emoji":
        facts["custom_emoji_id"] = attributes.get("emoji-id", "")
    if name == "blockquote" and "expandable" in tag[3]:
        facts["type"] = "expandable_blockquote"
    return _Open(name, length, tag.start(), facts)


def _close_tag(raw: str, tag: re.Match[str], opened: list[_Open], entities: list[Json], length: int) -> None:
    name, place = tag[2].lower(), _at_byte(raw, tag.start())
    if not opened:
        refuse(f"can't parse entities: Unexpected end tag at byte offset {place}")
    last = opened.pop()
    if last.mark != name:
        text = f'expected "</{last.mark}>", found "</{name}>"'
        refuse(f"can't parse entities: Unmatched end tag at byte offset {place}, {text}")
    if length > last.offset:
        entities.append({**last.facts, "offset": last.offset, "length": length - last.offset})


class _MarkdownReader:
    """Reads MarkdownV2, or the old Markdown with its four marks and no nesting."""

    def __init__(self, raw: str, *, is_legacy: bool = False) -> None:
        self._raw = raw
        self._legacy = is_legacy
        self._out: list[str] = []
        self._length = 0
        self._entities: list[Json] = []
        self._opened: list[_Open] = []
        self._position = 0

    def read(self) -> FormattedText:
        while self._position < len(self._raw):
            self._step()
        if self._opened:
            last = self._opened[-1]
            kind = _MARKS[last.mark]
            name = _NAMES.get(kind, kind.capitalize())
            place = _at_byte(self._raw, last.position)
            refuse(f"can't parse entities: Can't find end of {name} entity at byte offset {place}")
        return FormattedText("".join(self._out), self._entities)

    def _step(self) -> None:
        character = self._raw[self._position]
        escapable = "_*`[" if self._legacy else None
        following = self._raw[self._position + 1 : self._position + 2]
        if character == "\\" and following and (following in escapable if escapable else ord(following) < 127):
            self._put(following, 2)
        elif self._opened and self._opened[-1].mark in ("`", "```"):
            self._inside_code()
        elif character == "]" and any(one.mark == "[" for one in self._opened):
            self._close_link()
        elif (mark := self._mark()) is not None:
            self._toggle(mark)
        elif not self._legacy and self._skip_quote_mark():
            pass
        elif not self._legacy and character in _RESERVED:
            refuse(
                f"can't parse entities: Character '{character}' is reserved and must be escaped with the preceding '\\'"
            )
        else:
            self._put(character, 1)

    def _skip_quote_mark(self) -> bool:
        starts_line = self._position == 0 or self._raw[self._position - 1] == "\n"
        if self._raw[self._position] != ">" or not starts_line:
            return False
        end = self._raw.find("\n", self._position)
        line = self._raw[self._position + 1 : end if end >= 0 else len(self._raw)]
        self._entities.append({"type": "blockquote", "offset": self._length, "length": utf16_length(line)})
        self._position += 1
        return True

    def _mark(self) -> str | None:
        marks = ("```", "`", "*", "_", "[") if self._legacy else ("```", "||", "__", "*", "_", "~", "`", "[")
        return next((mark for mark in marks if self._raw.startswith(mark, self._position)), None)

    def _inside_code(self) -> None:
        mark = self._opened[-1].mark
        if self._raw.startswith(mark, self._position):
            self._toggle(mark)
        else:
            self._put(self._raw[self._position], 1)

    def _toggle(self, mark: str) -> None:
        if self._opened and self._opened[-1].mark == mark:
            self._finish(self._opened.pop())
        else:
            self._opened.append(_Open(mark, self._length, self._position, {"type": _MARKS[mark]}))
        self._position += len(mark)

    def _close_link(self) -> None:
        last = self._opened.pop()
        end = self._raw.find(")", self._position)
        if last.mark != "[" or self._raw[self._position + 1 : self._position + 2] != "(" or end < 0:
            place = _at_byte(self._raw, last.position)
            refuse(f"can't parse entities: Can't find end of a URL at byte offset {place}")
        last.facts["url"] = re.sub(r"\\(.)", r"\1", self._raw[self._position + 2 : end])
        self._finish(last)
        self._position = end + 1

    def _finish(self, opened: _Open) -> None:
        if self._length > opened.offset:
            self._entities.append({**opened.facts, "offset": opened.offset, "length": self._length - opened.offset})

    def _put(self, text: str, width: int) -> None:
        self._out.append(text)
        self._length += utf16_length(text)
        self._position += width
