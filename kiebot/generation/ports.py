"""What the generation service needs of the world. Adapters live in kie, botapi and storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from uuid import UUID


class TaskState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MISSING = "missing"  # the provider does not know the task (yet, or any more)


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What the provider says of one task. `failure` is a fixed word for texts, `detail` the provider's own sentence."""

    state: TaskState
    urls: tuple[str, ...] = ()
    text: str | None = None  # for models whose result is text
    failure: str | None = (
        None  # moderation | input_fetch | input | server | timeout | capacity | empty_result | unknown
    )
    detail: str | None = None
    retryable: bool = False  # a new task with the same input may work
    consumed_millicredits: int | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """One createTask call. `attempt_id` is unguessable; `callback_url` (when any) carries it."""

    attempt_id: UUID
    model_id: str
    input: Mapping[str, object]
    callback_url: str | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A user's file on its way to the provider: read once, streamed."""

    content: AsyncIterator[bytes]
    file_name: str
    mime: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result on local disk, deleted when its context ends. `mime` is sniffed from the bytes, never believed."""

    path: Path
    size_bytes: int
    mime: str
    kind: str  # image | video | audio | document
    width: int | None = None
    height: int | None = None
    seconds: float | None = None


RESULT_MAX_BYTES = 50_000_000  # what a bot may upload: a larger result is given as a link


class TooLarge(Exception):
    """The result is larger than the cap asked for. Deliver it as a link."""

    def __init__(self, size_bytes: int | None) -> None:
        super().__init__("result larger than the cap")
        self.size_bytes = size_bytes


class Provider(Protocol):
    """The maker of pictures, video and audio. Errors are kiebot.errors: they say what the caller does next."""

    async def submit(self, submission: Submission) -> str:
        """Create one task, return its task_id.

        Raises: RateLimited, AccountStopped, ModelPaused, Transient (nothing was created: again later);
            OutcomeUnknown (it may have been created and billed); Permanent, Moderated (never again as it is).
        """
        ...

    async def query(self, task_id: str) -> TaskReport:
        """Ask for a task. Raises: Transient (ask again later), AccountStopped."""
        ...

    async def upload(self, upload: Upload) -> str:
        """Put a file where the provider can read it; return its URL. Repeatable. Raises: Transient, Permanent."""
        ...

    async def credits_left(self) -> int:
        """The account's balance in millicredits. Raises: Transient, AccountStopped."""
        ...


class Budget(Protocol):
    """A quota that all replicas share, and the line of those who wait for it. `turn` names who waits. Never raises."""

    async def take(self, turn: str, since: datetime | None = None) -> float:
        """0.0: one call may go out now (it is counted). Else the seconds after which this turn is to ask again.

        since: whose place in the line it gets, when it asks for the first time: that of who asked then.
        """
        ...

    async def answered(self, turn: str) -> None:
        """The call that was let through has its answer. Without this word it counts for longer."""
        ...

    async def hurry(self, turn: str) -> None:
        """This turn goes first: there is news for it."""
        ...

    async def refused(self, *, pause_s: float = 0.0) -> None:
        """The provider said "too many" although the budget allowed it: nothing for `pause_s`, then less for a while."""
        ...


class Results(Protocol):
    """Reads result files from the provider's hosts, and from no others."""

    async def probe(self, url: str) -> Fetched:
        """Read only the head of the result: proves that it is alive and of a known kind (path is empty).

        Raises: Transient (not there yet, try again), Permanent (gone, foreign host, not a media file).
        """
        ...

    async def read_through(self, url: str, *, max_bytes: int) -> None:
        """Read the result to its end: proves that it is there in whole. Of one that is larger only
        the head is read, and the end where the host serves parts.

        Raises: as probe; Transient, too, when the body breaks off or stands still.
        """
        ...

    def fetch(self, url: str, *, max_bytes: int) -> AbstractAsyncContextManager[Fetched]:
        """Download to a temporary file. Raises: Transient, Permanent, TooLarge."""
        ...


@dataclass(frozen=True, slots=True)
class UserFile:
    """A file a user sent to the bot, named by Telegram's file_id."""

    file_id: str
    mime: str
    file_name: str
    size_bytes: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


class UserFiles(Protocol):
    """Reads users' files from Telegram. The download address holds the bot's token: it never leaves the adapter."""

    def open(self, file: UserFile) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the file's bytes. Raises: Transient, Permanent (expired or too big for the Bot API)."""
        ...
