"""The replicas' logs, read as they grow: who leads since when, and what is worth showing."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kiebot.demo.evidence import Epoch

_KEPT_LINES = 12
_KEPT = ("lease.", "poller.", "replica.", "part.")
_SHOWN = {
    "replica.started": "{replica} is up",
    "replica.draining": "{replica} drains",
    "replica.stopped": "{replica} left in order after {took_s} s",
    "poller.started": "{replica} polls, term {epoch}",
    "lease.lost": "{replica} lost the lease: {reason}",
    "lease.released": "{replica} gave the lease back: {reason}",
    "generation.adopted": "a task whose answer was lost found its generation",
    "generation.orphan_delivered": "an orphan came home after the void and was delivered free",
    "attempt.outcome_unknown": "a createTask without an answer: waiting for its callback, not sent again",
    "lease.seized": "{replica} seized the term of a dead leader",
    "update.buried": "an update was given up: {reason}",
    "part.died": "a part died: {part}",
}


@dataclass(slots=True)
class Feed:
    """Follows one file that all replicas append to. `last` holds its last lines as they are, `entries` what happened
    to leases and polls, each with its Unix time as `at`."""

    path: Path
    epochs: list[Epoch] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    _offset: int = 0
    _rest: bytes = b""

    def read(self) -> list[str]:
        """Sentences about what was logged since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        self._offset += len(fresh)
        *lines, self._rest = (self._rest + fresh).split(b"\n")
        return [told for line in lines if line.strip() for told in self._line(line)]

    def _line(self, line: bytes) -> list[str]:
        self.last.append(line.decode(errors="replace"))
        try:
            entry: Any = json.loads(line)
        except ValueError:  # what a process says before its logging is set up
            return []
        if not isinstance(entry, dict):
            return []
        event = str(entry.get("event", ""))
        if event.startswith(_KEPT):
            self.entries.append(entry | {"at": _unix(entry)})
        if event == "poller.started":
            self.epochs.append(Epoch(_unix(entry), int(entry["epoch"]), str(entry["replica"])))
        if event not in _SHOWN:
            return []
        return [_SHOWN[event].format_map(_Facts(entry))]


def _unix(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(entry["ts"])).timestamp()


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"
