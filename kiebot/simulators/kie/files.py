"""The files the simulated service holds: uploads, results, and signed links to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.prices import InputFacts
from kiebot.simulators.kie.switches import ResultMode, Switches
from kiebot.simulators.media import MediaSpec, make_media
from kiebot.simulators.probe import pixels_of, seconds_of

PREFIX = "/files/"


@dataclass(slots=True)
class StoredFile:
    """One file. Results are kept as a recipe, because most of a benchmark's are never fetched."""

    path: str
    content: bytes | MediaSpec
    content_type: str
    stored_at: float
    kind: Literal["upload", "result"]
    mode: ResultMode = "normal"

    @property
    def data(self) -> bytes:
        """The bytes."""
        return self.content if isinstance(self.content, bytes) else make_media(self.content)


class FileStore:
    """Files by path below `/files/`; expiry follows the switches at the time of reading."""

    def __init__(self, clock: SimClock, switches: Switches, new_token: Callable[[], str]) -> None:
        self._clock, self._switches, self.new_token = clock, switches, new_token
        self._files: dict[str, StoredFile] = {}
        self._links: dict[str, tuple[str, float]] = {}
        self.hosts: set[str] = set()
        """Every host name this service has been addressed by; a URL elsewhere is foreign."""

    def put(self, file: StoredFile) -> None:
        """Store, replacing what had the same path."""
        self._files[file.path] = file

    def get(self, path: str) -> StoredFile | None:
        """The file, or None when there is none or it has expired."""
        file = self._files.get(path)
        if file is None:
            return None
        ttl_s = self._switches.result_ttl_s if file.kind == "result" else self._switches.upload_ttl_s
        return None if self._clock.monotonic() - file.stored_at >= ttl_s else file

    def at_url(self, url: str) -> StoredFile | None:
        """The living file behind a URL of this service, or None."""
        path = self.path_of(url)
        return None if path is None else self.get(path)

    def path_of(self, url: str) -> str | None:
        """Where a URL points below `/files/`; None for a foreign one, or one that is no URL at all."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        if parts.netloc not in self.hosts or not parts.path.startswith(PREFIX):
            return None
        return unquote(parts.path.removeprefix(PREFIX))

    def link(self, path: str) -> str:
        """A path with a token that opens the file for `link_ttl_s` seconds; the file's own life stays as it is."""
        token = self.new_token()
        self._links[token] = (path, self._clock.monotonic() + self._switches.link_ttl_s)
        return f"link/{token}/{path.rsplit('/', 1)[-1]}"

    def linked(self, path: str) -> StoredFile | None:
        """The file behind a path made by `link`, or None once the link or the file has expired."""
        target, until = self._links.get(path.split("/")[1], ("", 0.0))
        return self.get(target) if self._clock.monotonic() < until else None

    def facts(self) -> InputFacts:
        """What prices need to know of files given as inputs."""
        return InputFacts(seconds=self._seconds, longer_edge=self._longer_edge)

    def uploads(self) -> list[StoredFile]:
        """The uploads that have not expired."""
        return [file for file in self._files.values() if file.kind == "upload" and self.get(file.path)]

    def _seconds(self, url: str) -> float | None:
        file = self.at_url(url)
        return None if file is None else seconds_of(file.data)

    def _longer_edge(self, url: str) -> int | None:
        file = self.at_url(url)
        pixels = None if file is None else pixels_of(file.data)
        return None if pixels is None else max(pixels)
