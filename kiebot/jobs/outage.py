"""Redis away, told once: several loops meet the same outage, people should read of it in two lines."""

from __future__ import annotations

import random
import time

import structlog

FIRST_BACK_OFF_S = 0.1
LONGEST_BACK_OFF_S = 2.0

log = structlog.get_logger()


class Outage:
    """Which parts of a worker cannot reach Redis. Begins with the first that fails, ends when all work again."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._began = 0.0

    @property
    def lasts_s(self) -> float:
        """Seconds since the present outage began; 0 when there is none."""
        return time.monotonic() - self._began if self._failures else 0.0

    def met(self, part: str, error: BaseException) -> float:
        """`part` failed; returns the seconds it should wait before it tries again."""
        if not self._failures:
            self._began = time.monotonic()
            log.warning("worker.outage", store="redis", part=part, error=f"{type(error).__name__}: {error}")
        failures = self._failures[part] = self._failures.get(part, 0) + 1
        longest = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** min(failures - 1, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    def passed(self, part: str) -> None:
        """`part` reached Redis."""
        if self._failures.pop(part, None) is not None and not self._failures:
            log.info("worker.resumed", outage_s=round(time.monotonic() - self._began, 3))
