"""Files by content, and the ids a bot gets for them: one per kind, of no use to another bot."""

import base64
import hashlib
import random
from collections import OrderedDict
from dataclasses import dataclass, field

from kiebot.simulators.telegram.answers import Json, bad_request, refuse
from kiebot.simulators.telegram.arguments import Upload
from kiebot.simulators.telegram.pictures import Sniffed, sniff
from kiebot.simulators.telegram.rules import Rules

MEDIA_FIELDS = ("photo", "animation", "video", "audio", "voice", "document")
_MIB = 1024 * 1024
_MAX_URL_PHOTO_BYTES, _MAX_URL_FILE_BYTES = 5 * _MIB, 20 * _MIB
_MAX_SIDES, _MAX_RATIO = 10_000, 20
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "video/mp4": "mp4"}
_EXTENSIONS |= {"audio/mpeg": "mp3", "audio/ogg": "oga", "audio/mp4": "m4a", "audio/x-wav": "wav", "audio/flac": "flac"}
_FITS = {
    "photo": {"photo"},
    "video": {"video"},
    "animation": {"animation", "video"},
    "audio": {"audio", "voice"},
    "voice": {"voice", "audio"},
}
_TYPE_NAMES = {"voice": "VoiceNote"}


@dataclass(slots=True, eq=False)
class Content:
    """One file's bytes, kept once. `data` becomes empty when the store had to make room."""

    data: bytes
    digest: str
    unique_id: str
    sniffed: Sniffed
    is_evicted: bool = False


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file as one bot knows it: kind, id and download path. `content_type` and `seconds` are the sender's claims."""

    kind: str
    file_id: str
    content: Content
    file_name: str
    content_type: str
    path: str
    photo_size_ids: tuple[str, ...] = ()
    seconds: int = 1

    def as_json(self) -> Json | list[Json]:
        """The value of the message field named like the kind."""
        if self.kind == "photo":
            return _photo_sizes(self)
        facts: Json = {"file_id": self.file_id, "file_unique_id": self.content.unique_id}
        facts["file_size"] = len(self.content.data)
        mime = self.content.sniffed.mime
        is_claimed = self.kind == "document" or mime == "application/octet-stream"
        facts["mime_type"] = self.content_type if is_claimed else mime
        if self.kind in ("video", "animation"):
            facts |= {"width": self.content.sniffed.width or 640, "height": self.content.sniffed.height or 360}
        if self.kind in ("video", "animation", "audio", "voice"):
            facts["duration"] = self.seconds
        if self.kind != "voice" and self.file_name:
            facts["file_name"] = self.file_name
        return facts


def _photo_sizes(photo: SentFile) -> list[Json]:
    """Smallest first; the last one is the picture itself."""
    sniffed, sizes = photo.content.sniffed, []
    for index, file_id in enumerate(photo.photo_size_ids):
        shrink = 2 ** (len(photo.photo_size_ids) - 1 - index)
        width, height = max(1, sniffed.width // shrink), max(1, sniffed.height // shrink)
        size = max(1, len(photo.content.data) // shrink**2)
        unique = photo.content.unique_id + ("" if shrink == 1 else f"s{index}")
        sizes.append(
            {"file_id": file_id, "file_unique_id": unique, "width": width, "height": height, "file_size": size}
        )
    return sizes


@dataclass(slots=True)
class UrlContent:
    """What the fake finds at an address when a bot sends a URL; `content_type` decides whether it fits."""

    data: bytes
    content_type: str


@dataclass(slots=True)
class FileStore:
    """All files one bot has sent or received."""

    bot_id: int
    rules: Rules
    rng: random.Random
    _contents: OrderedDict[str, Content] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _by_id: dict[str, SentFile] = field(default_factory=dict)
    _by_path: dict[str, SentFile] = field(default_factory=dict)
    _known: dict[tuple[str, str, str, int], SentFile] = field(default_factory=dict)

    def add(self, kind: str, data: bytes, file_name: str, content_type: str, seconds: int = 1) -> SentFile:
        """The file of that kind and content: the same one, ids included, when it is already there."""
        content = self._content(data)
        key = (kind, content.digest, file_name, seconds)
        known = self._known.get(key)
        if known is None:
            known = self._register(kind, content, file_name, content_type, seconds)
            self._known[key] = known
        return known

    def accept(self, kind: str, upload: Upload) -> SentFile:
        """An uploaded file. Raises: ApiError, when it does not fit its method."""
        limit = self.rules.max_photo_bytes
        if kind == "photo" and len(upload.data) > limit:
            size = len(upload.data)
            refuse(f"file of size {size} bytes is too big for a photo; the maximum size is {limit} bytes")
        if not upload.data:
            refuse("file must be non-empty")
        return self.add(self._kind_for(kind, upload.data), upload.data, upload.file_name, upload.content_type)

    def accept_url(self, kind: str, url: str, found: UrlContent | None) -> SentFile:
        """A file named by URL. Raises: ApiError, when it could not be fetched, is too big or of the wrong type."""
        limit = _MAX_URL_PHOTO_BYTES if kind == "photo" else _MAX_URL_FILE_BYTES
        if found is None or len(found.data) > limit:
            refuse("failed to get HTTP URL content")
        if found.content_type.startswith("text/") or (kind == "photo" and not found.content_type.startswith("image/")):
            refuse("wrong type of the web page content")
        name = url.rsplit("/", 1)[-1].split("?", 1)[0]
        return self.add(self._kind_for(kind, found.data), found.data, name, found.content_type)

    def by_id(self, kind: str, file_id: str) -> SentFile:
        """A file sent again by its id. Raises: ApiError for an unknown, foreign or differently typed id."""
        known = self._by_id.get(file_id)
        if known is None:
            refuse("wrong file identifier/HTTP URL specified")
        if known.kind != kind:
            real, wanted = (_TYPE_NAMES.get(name, name.capitalize()) for name in (known.kind, kind))
            refuse(f"can't use file of type {real} as {wanted}")
        return known

    def describe(self, file_id: str) -> Json:
        """getFile. Raises: ApiError, when unknown or too big to download."""
        known = self._by_id.get(file_id)
        if known is None or known.content.is_evicted:
            raise bad_request("wrong file_id or the file is temporarily unavailable")
        size = len(known.content.data)
        if size > self.rules.max_download_bytes and not self.rules.local_server:
            refuse("file is too big")
        unique = known.content.unique_id
        return {"file_id": file_id, "file_unique_id": unique, "file_size": size, "file_path": known.path}

    def download(self, path: str) -> SentFile | None:
        known = self._by_path.get(path)
        return None if known is None or known.content.is_evicted else known

    def _kind_for(self, kind: str, data: bytes) -> str:
        sniffed = sniff(data)
        if kind == "photo":
            _check_picture(sniffed)
        fits = _FITS.get(kind)
        if fits is None or sniffed.kind in fits or not self.rules.demotes_unknown_media:
            return kind
        return "audio" if sniffed.kind == "audio" and kind == "voice" else "document"

    def _content(self, data: bytes) -> Content:
        digest = hashlib.sha256(data).hexdigest()
        content = self._contents.get(digest)
        if content is None:
            unique = base64.urlsafe_b64encode(bytes.fromhex(digest)[:12]).decode()
            content = self._contents[digest] = Content(data, digest, unique, sniff(data))
            self._bytes += len(data)
            self._make_room()
        self._contents.move_to_end(digest)
        return content

    def _make_room(self) -> None:
        while self._bytes > self.rules.max_stored_file_bytes and len(self._contents) > 1:
            _, oldest = self._contents.popitem(last=False)
            self._bytes -= len(oldest.data)
            oldest.data, oldest.is_evicted = b"", True
            self._known = {key: file for key, file in self._known.items() if key[1] != oldest.digest}

    def _register(self, kind: str, content: Content, file_name: str, content_type: str, seconds: int) -> SentFile:
        count = 3 if kind == "photo" else 1
        ids = tuple(self._new_id(kind) for _ in range(count))
        extension = _EXTENSIONS.get(content.sniffed.mime) or (file_name.rsplit(".", 1)[-1] if "." in file_name else "")
        path = f"{kind}s/file_{len(self._by_path)}" + (f".{extension}" if extension else "")
        size_ids = ids if kind == "photo" else ()
        file = SentFile(kind, ids[-1], content, file_name, content_type, path, size_ids, seconds)
        self._by_path[path] = file
        self._by_id |= dict.fromkeys(ids, file)
        return file

    def _new_id(self, kind: str) -> str:
        prefix = {"photo": "AgACAgIAAxk", "video": "BAACAgIAAxk", "animation": "CgACAgIAAxk"}.get(kind, "BQACAgIAAxk")
        return prefix + base64.urlsafe_b64encode(self.rng.randbytes(42)).decode()


def _check_picture(sniffed: Sniffed) -> None:
    width, height = sniffed.width, sniffed.height
    if sniffed.kind not in ("photo", "animation"):
        refuse("IMAGE_PROCESS_FAILED")
    if not width or not height or width + height > _MAX_SIDES or max(width, height) > _MAX_RATIO * min(width, height):
        refuse("PHOTO_INVALID_DIMENSIONS")
