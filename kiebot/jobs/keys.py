"""Where the queue of one kiebot lives in Redis. Everything under the `arq:` names is arq's own, fixed layout."""

from __future__ import annotations

from dataclasses import dataclass

from arq.constants import health_check_key_suffix


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of the kiebot called `prefix` (REDIS_PREFIX).

    Raises: ValueError, if the prefix is empty: its jobs could be taken for those of any other.
    """

    prefix: str

    def __post_init__(self) -> None:
        if not self.prefix:
            raise ValueError("the queue needs a prefix that no other kiebot on this Redis uses")

    @property
    def queue(self) -> str:
        """Sorted set: job id -> due time in Unix milliseconds."""
        return f"{self.prefix}:queue"

    @property
    def bell(self) -> str:
        """List of tokens; each wakes one idle worker."""
        return f"{self.queue}:bell"

    @property
    def health(self) -> str:
        """Written by every worker, so it lives as long as any of them does; `arq --check` reads it."""
        return f"{self.queue}{health_check_key_suffix}"

    def replica_health(self, replica: str) -> str:
        return f"{self.health}:{replica}"

    def job_id(self, name: str) -> str:
        """The id under which arq knows a job: ids share one key space with every other user of this Redis."""
        return f"{self.prefix}:{name}"
