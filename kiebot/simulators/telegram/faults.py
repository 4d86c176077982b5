"""Scripted misfortune on Telegram's side: wrong answers, late answers, lost answers, held requests."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from kiebot.simulators.clock import SimClock
from kiebot.simulators.telegram.answers import Answer, ApiError, ConnectionCut, encode, failure
from kiebot.simulators.telegram.journal import Call

Matcher = Callable[[Call], bool]
Perform = Callable[[], Awaitable[Answer]]


class Hold:
    """A request kept from the server, as if its sender had frozen, until `release`."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    async def reached(self) -> Call:
        """Return when a request is being held."""
        await self._reached.wait()
        if self.call is None:
            raise RuntimeError("a hold was reached without a request")
        return self.call

    def release(self) -> None:
        """Let the request go on; it is handled by the rules of that later moment."""
        self._released.set()

    async def keep(self, call: Call) -> None:
        self.call = call
        self._reached.set()
        await self._released.wait()


@dataclass(slots=True, eq=False)
class Fault:
    """What happens to matching requests. `times` left, or until a monotonic instant; None means no such end."""

    method: str | None
    times: int | None
    until: float | None = None
    answer: Answer | None = None
    delay_s: float = 0.0
    answer_delay_s: float = 0.0
    cut: Literal["", "before", "after"] = ""
    hold: Hold | None = None
    matches: Matcher | None = None
    hits: list[Call] = field(default_factory=list)

    def fits(self, call: Call) -> bool:
        return (self.method is None or self.method == call.method.lower()) and (
            self.matches is None or self.matches(call)
        )


class Faults:
    """The script: each request takes the first fault that fits. Every method returns the fault; its `hits` are filled.

    `method` None means any; `times` None means every one until `clear`; `matches` narrows by the journaled call, for
    instance `lambda call: call.process == "replica-2"`.
    """

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._faults: list[Fault] = []
        self.overlaps_due = 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def answers(
        self,
        method: str | None,
        status: int,
        description: str = "",
        *,
        retry_after: int | None = None,
        body: bytes | None = None,
        times: int | None = 1,
        for_s: float | None = None,
        matches: Matcher | None = None,
    ) -> Fault:
        """Answer so, without any effect. A `body` goes out as it is, JSON or not; `for_s` bounds it by time instead."""
        answer = _scripted(status, description, retry_after, body)
        until = None if for_s is None else self._clock.monotonic() + for_s
        return self._add(Fault(_lower(method), None if for_s else times, until, answer, matches=matches))

    def breaks(self, method: str | None = None, *, for_s: float, status: int = 502, body: bytes | None = None) -> Fault:
        """A front end in trouble: `for_s` seconds of an answer that is not JSON."""
        page = b"<html><head><title>502 Bad Gateway</title></head></html>" if body is None else body
        return self.answers(method, status, body=page, for_s=for_s)

    def delays(self, method: str, delay_s: float, *, times: int | None = 1, matches: Matcher | None = None) -> Fault:
        """Wait, then act and succeed: what a flood wait inside the server looks like."""
        return self._add(Fault(_lower(method), times, delay_s=delay_s, matches=matches))

    def delays_answer(
        self, method: str, delay_s: float, *, times: int | None = 1, matches: Matcher | None = None
    ) -> Fault:
        """Act at once, answer later."""
        return self._add(Fault(_lower(method), times, answer_delay_s=delay_s, matches=matches))

    def cuts_before(self, method: str | None, *, times: int | None = 1, matches: Matcher | None = None) -> Fault:
        """Break the connection; nothing took effect."""
        return self._add(Fault(_lower(method), times, cut="before", matches=matches))

    def cuts_after(self, method: str | None, *, times: int | None = 1, matches: Matcher | None = None) -> Fault:
        """Act, then break the connection instead of answering."""
        return self._add(Fault(_lower(method), times, cut="after", matches=matches))

    def holds(self, method: str, *, matches: Matcher | None = None) -> Hold:
        """Keep the next such request from the server until released."""
        hold = Hold()
        self._add(Fault(_lower(method), 1, hold=hold, matches=matches))
        return hold

    def overlaps(self, times: int = 1) -> None:
        """Let the next updates be seen by the parked poll *and* by another that comes meanwhile; both get 200."""
        self.overlaps_due += times

    def clear(self) -> None:
        """End all faults; requests already held stay held."""
        self._faults.clear()
        self.overlaps_due = 0

    def take(self, call: Call) -> Fault | None:
        """The fault for this request, used up by one."""
        now = self._clock.monotonic()
        self._faults = [fault for fault in self._faults if fault.until is None or now < fault.until]
        for fault in self._faults:
            if fault.fits(call):
                fault.hits.append(call)
                self._use(fault)
                return fault
        return None

    def _use(self, fault: Fault) -> None:
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    async def play(self, fault: Fault, call: Call, perform: Perform) -> Answer:
        """Run a request under a fault. Raises: ConnectionCut."""
        if fault.hold is not None:
            await fault.hold.keep(call)
            call.started_at = self._clock.monotonic()
        if fault.delay_s:
            await self._clock.sleep(fault.delay_s)
        if fault.cut == "before":
            raise ConnectionCut
        if fault.answer is not None:
            return fault.answer
        answer = await perform()
        if fault.answer_delay_s:
            await self._clock.sleep(fault.answer_delay_s)
        if fault.cut == "after":
            raise ConnectionCut
        return answer


def _lower(method: str | None) -> str | None:
    return method.lower() if method else None


def _scripted(status: int, description: str, retry_after: int | None, body: bytes | None) -> Answer:
    if body is not None:
        return Answer(status, body, description, retry_after, content_type=b"text/html")
    if status == 200:
        return Answer(200, b'{"ok":true,"result":' + encode(True) + b"}")
    if status == 429:
        seconds = retry_after or 1
        return failure(
            ApiError(429, description or f"Too Many Requests: retry after {seconds}", {"retry_after": seconds})
        )
    return failure(ApiError(status, description or "Internal Server Error"))
