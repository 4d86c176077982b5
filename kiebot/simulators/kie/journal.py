"""Every request with its time and outcome, for tests that ask what really happened."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CREATE_PATH = "/api/v1/jobs/createTask"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `code` is the envelope's or None; `outcome` says what went out ("200", "cut", "page 502", ...)."""

    at: float
    method: str
    path: str
    query: str
    code: int | None
    outcome: str
    carried_key: bool
    summary: dict[str, Any]
    model: str | None = None
    task_id: str | None = None
    attempt_id: str | None = None
    callback_url: str | None = None


class Journal:
    """The last `limit` requests, oldest first. The API key never gets in."""

    def __init__(self, limit: int = 200_000) -> None:
        self.entries: deque[Entry] = deque(maxlen=limit)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)

    def creates(self) -> list[Entry]:
        """Every createTask request, whatever became of it."""
        return [entry for entry in self.entries if entry.path == CREATE_PATH and entry.method == "POST"]

    def creates_by_callback(self) -> Counter[str]:
        """How many createTask requests named each attempt in the last path segment of their callBackUrl."""
        return Counter(entry.attempt_id for entry in self.creates() if entry.callback_url and entry.attempt_id)

    def creates_by_attempt(self) -> Counter[str]:
        """The same, counting attempts named only by the X-Attempt-Id header too."""
        return Counter(entry.attempt_id for entry in self.creates() if entry.attempt_id)

    def polls_of(self, task_id: str) -> list[Entry]:
        """Every recordInfo request for one task."""
        return [entry for entry in self.entries if entry.path.endswith("/recordInfo") and entry.task_id == task_id]

    def key_leaks(self) -> list[Entry]:
        """Requests that carried an Authorization header to the file hosts, where it must never go."""
        return [entry for entry in self.entries if entry.path.startswith("/files/") and entry.carried_key]

    def outcomes(self) -> Counter[tuple[str, str]]:
        """How often each (path, outcome) happened."""
        return Counter((entry.path, entry.outcome) for entry in self.entries)

    def clear(self) -> None:
        self.entries.clear()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)
