"""What a run looks like: a view that redraws itself on a terminal, lines for logs, and the table at the end."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from kiebot.demo.audit import Verdict, doubled, lost
from kiebot.demo.evidence import Evidence

_KEPT_EVENTS = 12
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one instant. Money is millicredits."""

    leader: str
    epoch: int
    replicas: Mapping[str, str]
    sent: int
    handled: int
    generations: Mapping[str, int]
    granted: int = 0
    held: int = 0
    captured: int = 0

    def lines(self) -> list[str]:
        replicas = "   ".join(
            f"{'*' if name == self.leader else ' '}{name} {state}" for name, state in self.replicas.items()
        )
        works = ", ".join(f"{count} {state}" for state, count in self.generations.items()) or "none yet"
        return [
            f"leader       {self.leader or 'nobody'}, term {self.epoch}",
            f"replicas    {replicas}",
            f"updates      {self.sent} sent, {self.handled} handled, {self.sent - self.handled} under way",
            f"generations  {works}",
            f"credits      {_credits(self.granted)} granted, {_credits(self.held)} held, "
            f"{_credits(self.captured)} captured",
        ]


@dataclass(slots=True)
class Show:
    """Prints events; on a terminal it redraws a screen of its own instead, until `end`."""

    is_plain: bool
    out: TextIO = field(default_factory=lambda: sys.stdout)
    started: float = field(default_factory=time.monotonic)
    _events: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    _last: Snapshot | None = None
    _is_open: bool = False
    _shown_at: float = 0.0

    def tell(self, event: str) -> None:
        """Something happened."""
        line = f"{time.monotonic() - self.started:5.1f} s  {event}"
        self._events.append(line)
        if self.is_plain:
            print(line, file=self.out, flush=True)
        elif self._last is not None:
            self._draw(self._last)

    def look(self, snapshot: Snapshot) -> None:
        """How things stand. Plain: a line every five seconds."""
        self._last = snapshot
        if not self.is_plain:
            self._draw(snapshot)
        elif time.monotonic() - self._shown_at > 5.0:
            self._shown_at = time.monotonic()
            leads = f"{snapshot.leader or 'nobody'} leads (term {snapshot.epoch})"
            self.tell(f"· {leads}; {'; '.join(line.replace('  ', ' ').strip() for line in snapshot.lines()[2:])}")

    def end(self) -> None:
        """Give the terminal back. Safe to call twice."""
        if self._is_open:
            self._is_open = False
            print(_LEAVE, end="", file=self.out, flush=True)

    def _draw(self, snapshot: Snapshot) -> None:
        if not self._is_open:
            self._is_open = True
            print(_ENTER, end="", file=self.out)
        width = shutil.get_terminal_size().columns
        head = f"kiebot demo  {time.monotonic() - self.started:.1f} s"
        lines = [head, "", *snapshot.lines(), "", *self._events]
        body = "\n".join(line[: width - 1] + _CLEAR_LINE for line in lines)
        print(f"{_HOME}{body}{_CLEAR_BELOW}", end="", file=self.out, flush=True)


def table(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    """The result in words: counts, promises, and what is worth listing."""
    rows = [("counted", ""), *_counts(evidence), ("", ""), ("promised", "")]
    lines = ["", *(f"{name:<52}{value}".rstrip() for name, value in rows)]
    for verdict in verdicts:
        lines.append(f"  {'kept  ' if verdict.is_kept else 'BROKEN'}  {verdict.promise}")
        lines += [f"            {line}" for line in (*verdict.broken_by, *verdict.notes)]
    return "\n".join(lines)


def _counts(evidence: Evidence) -> list[tuple[str, str]]:
    settled = [work.settled for work in evidence.works]
    captured, voided = settled.count("captured"), settled.count("voided")
    arrived = sum(1 for work in evidence.works if work.settled == "captured" and work.delivered)
    handled = len({row.update_id for row in evidence.inbox if row.done_at is not None})
    is_even = len(evidence.works) == captured + voided
    return [
        ("  updates sent, handled", f"{len(evidence.sent)}, {handled}"),
        ("  updates lost, doubled", f"{len(lost(evidence))}, {len(doubled(evidence))}"),
        (
            "  generations accepted, captured, voided",
            f"{len(evidence.works)} {'=' if is_even else '≠'} {captured} + {voided}",
        ),
        ("  results delivered", f"{arrived} of {captured}"),
        ("  tasks at KIE, billed", f"{len(evidence.tasks)}, {sum(task.is_billed for task in evidence.tasks)}"),
        ("  credits granted, captured", f"{_credits(evidence.books.granted)}, {_credits(evidence.books.captured)}"),
        ("  terms", str(len(evidence.epochs))),
        ("  getUpdates of two living clients at once", str(len(evidence.overlaps))),
        ("  409 answered to a living client", str(len(evidence.conflicts))),
    ]


def _credits(millicredits: int) -> str:
    return f"{millicredits / 1000:g}"
