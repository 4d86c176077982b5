"""The many shapes in which KIE hands over a result: lists, single addresses, takes of music, objects of text. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

MAX_URLS = 50
MAX_URL_CHARS = 4096
MAX_TEXT_CHARS = 100_000
_MAX_DECODES = 3  # KIE encodes some objects twice; one more is a margin, not a shape ever met

# In order of trust; the first that yields anything is the result. Watermarked copies and frame lists are extras.
_URL_KEYS = ("resultUrls", "resultUrl", "result_urls", "urls", "url")
_TAKE_KEYS = ("data", "sunoData")
_TAKE_URL_KEYS = ("audio_url", "audioUrl", "stream_audio_url", "streamAudioUrl", "video_url", "videoUrl")
_SINGLE_KEYS = ("audio_url", "audioUrl", "video_url", "videoUrl", "image_url", "imageUrl", "mask_urls")
_UNKEEPABLE = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_TEXT_KEYS = ("text", "transcript", "transcription")


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a finished task made: addresses of files, or a text, or neither (an empty success)."""

    urls: tuple[str, ...] = ()
    text: str | None = None

    def __bool__(self) -> bool:
        return bool(self.urls or self.text)


def outputs_of(*sources: object) -> Outputs:
    """The outputs of the first source that has any. A source is JSON text, JSON text within JSON text, or decoded."""
    for source in sources:
        found = _outputs(decoded(source))
        if found:
            return found
    return Outputs()


def decoded(value: object) -> object:
    """The value behind up to three layers of JSON text. Text that is not JSON stays text."""
    for _ in range(_MAX_DECODES):
        if not isinstance(value, str):
            return value
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def safe_text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """The text without what a database or a terminal cannot keep: NUL, control characters, lone surrogates."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8").translate(_UNKEEPABLE).strip()


def _outputs(value: object) -> Outputs:
    if isinstance(value, str | list):
        return Outputs(urls=_clean_urls(_strings(value)))
    if not isinstance(value, Mapping):
        return Outputs()
    urls = _urls_of(value)
    return Outputs(urls=urls) if urls else _from_object(value)


def _urls_of(value: Mapping[str, object]) -> tuple[str, ...]:
    for candidates in (
        (url for key in _URL_KEYS for url in _strings(value.get(key))),
        (url for key in _TAKE_KEYS for url in _take_urls(decoded(value.get(key)))),
        (url for key in _SINGLE_KEYS for url in _strings(value.get(key))),
    ):
        urls = _clean_urls(candidates)
        if urls:
            return urls
    return ()


def _take_urls(takes: object) -> Iterator[str]:
    """One address per take of a piece of music: the finished file before its stream."""
    for take in takes if isinstance(takes, list) else [takes]:
        if isinstance(take, Mapping):
            found = [url for key in _TAKE_URL_KEYS for url in _clean_urls(_strings(take.get(key)))]
            yield from found[:1]


def _from_object(value: Mapping[str, object]) -> Outputs:
    inner = decoded(value.get("resultObject"))
    if isinstance(inner, Mapping) and (urls := _urls_of(inner)):
        return Outputs(urls=urls)
    text = _text_of(inner) or _text_of(value.get("character_id"))
    return Outputs(text=text or None)


def _text_of(value: object) -> str:
    if isinstance(value, str):
        return safe_text(value)
    if not isinstance(value, Mapping):
        return ""
    for key in _TEXT_KEYS:
        if isinstance(text := value.get(key), str) and text.strip():
            return safe_text(text)
    lyrics = value.get("lyricsData")
    if isinstance(lyrics, list):
        verses = [str(verse.get("text") or "") for verse in lyrics if isinstance(verse, Mapping)]
        return safe_text("\n\n".join(filter(None, verses)))
    return safe_text(json.dumps(value, ensure_ascii=False, default=str)) if value else ""


def _strings(value: object) -> Iterator[str]:
    value = decoded(value)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item


def _clean_urls(candidates: Iterable[str]) -> tuple[str, ...]:
    """Those that are web addresses, each once, in order."""
    urls = dict.fromkeys(url.strip() for url in candidates)
    return tuple(url for url in urls if _is_web_address(url))[:MAX_URLS]


def _is_web_address(url: str) -> bool:
    return (
        url.startswith(("https://", "http://")) and len(url) <= MAX_URL_CHARS and url.isprintable() and " " not in url
    )
