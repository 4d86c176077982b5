"""KIE's own list of models and their schemas. One call a second for the whole account: each asks its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kiebot.clock import Clock
from kiebot.errors import RateLimited, Transient
from kiebot.generation.ports import Budget
from kiebot.ids import new_id
from kiebot.kie.budget import Limit
from kiebot.kie.client import KieProvider

CATALOGUE_LIMIT = Limit(1, 1.05, 1.0)  # 5 % for clocks that differ
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of KIE's list. `price`: a sentence, or nothing."""

    model_id: str
    title: str
    task_types: tuple[str, ...]
    price: str


class KieDiscovery:
    """Args: budget, of the catalogue calls (CATALOGUE_LIMIT), shared by all who ask for this account."""

    def __init__(self, provider: KieProvider, budget: Budget, clock: Clock) -> None:
        self._provider = provider
        self._budget = budget
        self._clock = clock
        self._turn = f"discovery {new_id()}"

    async def listed(self) -> list[Listed]:
        """Every model that KIE names. Raises: Transient, AccountStopped."""
        data = await self._ask("")
        rows = data.get("models") if isinstance(data, Mapping) else None
        if not isinstance(rows, list):
            raise Transient("models: not a list")
        return [_listed(row) for row in rows if isinstance(row, Mapping) and row.get("model")]

    async def schema(self, model_id: str) -> Mapping[str, Any] | None:
        """The JSON schema of a model's input, as KIE documents it; None when it does not, or in no known shape.

        Raises: Permanent (unknown_model), Transient, AccountStopped.
        """
        data = await self._ask(f"/{model_id}/schema")
        return input_schema(data.get("openapi")) if isinstance(data, Mapping) else None

    async def _ask(self, path: str) -> object:
        """A call that another made impossible is made again: nothing but time is spent."""
        tries = 1
        while True:
            try:
                return await self._once(path)
            except RateLimited as error:
                await self._budget.refused(pause_s=error.retry_after_s)
                if tries == _TRIES:
                    raise
            tries += 1

    async def _once(self, path: str) -> object:
        while (wait_s := await self._budget.take(self._turn)) > 0:
            await self._clock.sleep(wait_s)
        try:
            return await self._provider.catalogue(path)
        finally:
            await self._budget.answered(self._turn)


def input_schema(openapi: object) -> Mapping[str, Any] | None:
    """The part about `input` in the description of createTask."""
    paths = openapi.get("paths") if isinstance(openapi, Mapping) else None
    for path in paths.values() if isinstance(paths, Mapping) else ():
        node: object = path
        for name in ("post", "requestBody", "content", "application/json", "schema", "properties", "input"):
            node = node.get(name) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and isinstance(node.get("properties"), Mapping):
            return node
    return None


def _listed(row: Mapping[str, Any]) -> Listed:
    types = row.get("taskType")
    words = tuple(str(each) for each in types) if isinstance(types, list) else ()
    return Listed(str(row["model"]), str(row.get("title") or ""), words, str(row.get("pricingDesc") or ""))
