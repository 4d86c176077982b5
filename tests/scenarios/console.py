"""The command line in this process, with the settings of a world."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from kiebot.cli import cli
from tests.scenarios.world import World


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Awaitable[Said]]


def console(world: World) -> Run:
    """Runs one command; `answers` is what the operator types, the rest the environment beside the world's."""

    async def run(*arguments: str, answers: str = "", **environment: str) -> Said:
        given = {**world.environment(), **environment}
        invoke = CliRunner().invoke
        result = await asyncio.to_thread(invoke, cli, list(arguments), input=answers, env=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run
