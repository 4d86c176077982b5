"""Every request in order of arrival, and the questions that tests ask about them."""

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kiebot.simulators.clock import SimClock
from kiebot.simulators.telegram.answers import Answer, Json
from kiebot.simulators.telegram.arguments import Arguments
from kiebot.simulators.telegram.queue import Purge

_ANONYMOUS_AGENTS = ("python-httpx/", "python-telegram-bot", "python-requests/", "aiohttp/", "curl/", "Mozilla/")


@dataclass(frozen=True, slots=True)
class FileNote:
    """An uploaded file as the journal remembers it."""

    name: str
    content_type: str
    size_bytes: int


@dataclass(slots=True, eq=False)
class Call:
    """One request. Times are monotonic seconds of the simulator's clock, except `at` (Unix seconds).

    `status` is None while the answer is outstanding and for a connection that was cut. `disconnected_at` is set when
    the client was gone before its answer; the request took effect nevertheless. `sent` names what it put into a chat.
    """

    number: int
    bot_id: int | None
    method: str
    arguments: dict[str, str]
    files: dict[str, FileNote]
    client: str
    process: str
    at: float
    started_at: float
    ended_at: float | None = None
    disconnected_at: float | None = None
    status: int | None = None
    description: str = ""
    retry_after: int | None = None
    update_ids: tuple[int, ...] = ()
    message_ids: tuple[int, ...] = ()
    sent: tuple[Any, ...] = ()
    is_cut: bool = False
    is_too_early: bool = False
    """It came before a retry_after given earlier had passed."""

    @property
    def chat_id(self) -> int | None:
        raw = self.arguments.get("chat_id", "")
        return int(raw) if raw.lstrip("-").isdigit() else None

    @property
    def is_ok(self) -> bool:
        return self.status == 200

    @property
    def duration_s(self) -> float | None:
        return None if self.ended_at is None else self.ended_at - self.started_at

    def as_json(self) -> Json:
        """Everything but uploaded bytes."""
        names = ("number", "bot_id", "method", "arguments", "client", "process", "at", "started_at", "ended_at")
        more = ("disconnected_at", "status", "description", "retry_after", "update_ids", "message_ids", "is_cut")
        facts: Json = {name: getattr(self, name) for name in (*names, *more, "is_too_early")}
        facts["files"] = {name: [f.name, f.content_type, f.size_bytes] for name, f in self.files.items()}
        return facts


@dataclass(frozen=True, slots=True)
class PollOverlap:
    """Two getUpdates of different processes, both with a connected client, for `seconds` (0: within one instant)."""

    first: Call
    second: Call
    seconds: float


@dataclass(slots=True)
class Journal:
    """Records calls; with `keep` it forgets the oldest beyond that many, while `counts` and overlaps go on counting."""

    clock: SimClock
    keep: int | None = None
    counts: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    """(method in lower case, status or None for a cut connection) -> how many."""
    overlap_count: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _calls: deque[Call] = field(init=False)
    _overlaps: deque[PollOverlap] = field(init=False)
    _purges: deque[Purge] = field(init=False)
    _open_polls: dict[int, Call] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._calls = deque(maxlen=self.keep)
        self._overlaps = deque(maxlen=self.keep)
        self._purges = deque(maxlen=self.keep or 200_000)

    # what the simulator tells

    def begin(
        self, bot_id: int | None, method: str, arguments: Arguments, client: str, headers: dict[str, str]
    ) -> Call:
        """A request has arrived. The token is never recorded, only the bot's id."""
        files = {name: FileNote(f.file_name, f.content_type, len(f.data)) for name, f in arguments.files.items()}
        process = process_of(headers, client)
        clock = self.clock
        number = next(self._numbers)
        values = dict(arguments.values)  # methods may change their own
        call = Call(number, bot_id, method, values, files, client, process, clock.now(), clock.monotonic())
        self._calls.append(call)
        return call

    def poll_opened(self, call: Call) -> None:
        self._open_polls[call.number] = call

    def end(self, call: Call, answer: Answer | None) -> None:
        """An answer is about to leave; None when the connection is cut instead."""
        call.ended_at = self.clock.monotonic()
        if answer is None:
            call.is_cut = True
        else:
            call.status, call.description, call.retry_after = answer.status, answer.description, answer.retry_after
        self.counts[call.method.lower(), call.status] += 1
        self._poll_closed(call)

    def disconnected(self, call: Call) -> None:
        if call.ended_at is None and call.disconnected_at is None:
            call.disconnected_at = self.clock.monotonic()
            self._poll_closed(call)

    def purged(self, purge: Purge) -> None:
        self._purges.append(purge)

    def _poll_closed(self, call: Call) -> None:
        if self._open_polls.pop(call.number, None) is None:
            return
        now = self.clock.monotonic()
        for other in self._open_polls.values():
            self._note_overlap(call, other, now)

    def _note_overlap(self, one: Call, other: Call, until: float) -> None:
        if one.bot_id == other.bot_id and one.process != other.process:
            first, second = sorted((one, other), key=lambda call: (call.started_at, call.number))
            self.overlap_count += 1
            self._overlaps.append(PollOverlap(first, second, until - second.started_at))

    # what tests ask

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def last_number(self) -> int:
        """Of the newest call; 0 when there was none."""
        return self._calls[-1].number if self._calls else 0

    def calls(
        self, method: str | None = None, chat_id: int | None = None, bot_id: int | None = None, after: int = 0
    ) -> list[Call]:
        """Calls in order of arrival, by method (any case), chat, bot, and number greater than `after`."""
        wanted = method.lower() if method else None
        newest_first = itertools.takewhile(lambda call: call.number > after, reversed(self._calls))
        found = [
            call
            for call in newest_first
            if (wanted is None or call.method.lower() == wanted)
            and (chat_id is None or call.chat_id == chat_id)
            and (bot_id is None or call.bot_id == bot_id)
        ]
        return found[::-1]

    def polls(self) -> list[Call]:
        return self.calls("getUpdates")

    def live_poll_overlaps(self, at_least_s: float = 0.0) -> list[PollOverlap]:
        """Pairs of polls by different processes that ran at the same time while both clients were connected.

        The process is the X-Replica-Id header, else a User-Agent of its own, else the connection.
        """
        now = self.clock.monotonic()
        seen = [overlap for overlap in self._overlaps if overlap.seconds >= at_least_s]
        for one, other in itertools.combinations(self._open_polls.values(), 2):
            if one.bot_id == other.bot_id and one.process != other.process and now - other.started_at >= at_least_s:
                seen.append(PollOverlap(one, other, now - other.started_at))
        return seen

    def conflicts_to_live_clients(self) -> list[Call]:
        """Polls answered 409 whose client was there to read it."""
        return [call for call in self.polls() if call.status == 409 and call.disconnected_at is None]

    def duplicate_sends(self, within_s: float | None = None) -> list[list[Call]]:
        """Sends that took effect with the same content in the same chat; `within_s`: no further apart than that."""
        groups: dict[tuple[Any, ...], list[Call]] = {}
        for call in self._calls:
            if call.sent:
                groups.setdefault((call.bot_id, *call.sent), []).append(call)
        return [part for group in groups.values() for part in _close_together(group, within_s) if len(part) > 1]

    def too_early(self) -> list[Call]:
        """Requests sent before a retry_after had passed."""
        return [call for call in self._calls if call.is_too_early]

    def disconnected_early(self) -> list[Call]:
        return [call for call in self._calls if call.disconnected_at is not None]

    def purges(self, reason: str | None = None) -> list[Purge]:
        """Updates that ended unread, oldest first."""
        return [purge for purge in self._purges if reason is None or purge.reason == reason]

    def dump(self, after: int = 0, limit: int = 1000) -> list[Json]:
        """The newest `limit` calls with a number above `after`, as JSON values."""
        return [call.as_json() for call in self.calls(after=after)[-limit:]]


def _close_together(group: list[Call], within_s: float | None) -> Iterable[list[Call]]:
    if within_s is None:
        return [group]
    parts: list[list[Call]] = []
    for call in group:
        if parts and call.started_at - parts[-1][-1].started_at <= within_s:
            parts[-1].append(call)
        else:
            parts.append([call])
    return parts


def process_of(headers: dict[str, str], client: str) -> str:
    """Who sent it: the X-Replica-Id header, else a User-Agent that is not a library's own, else the connection."""
    replica = headers.get("x-replica-id")
    if replica:
        return replica
    agent = headers.get("user-agent", "")
    return agent if agent and not agent.startswith(_ANONYMOUS_AGENTS) else client
