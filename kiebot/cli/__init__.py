"""The command line: one file per group, loaded only when asked for, because a replica's imports take a second.

Exit statuses: 0 done, 1 failed, 2 usage, 78 configuration.
"""

from __future__ import annotations

import importlib
import sys

import click

EXIT_CONFIGURATION = 78

_COMMANDS = {
    "run": ("kiebot.cli.run", "run", "Run one replica."),
    "up": ("kiebot.cli.up", "up", "Stores if needed, migrations, and N replicas, kept running."),
    "demo": ("kiebot.cli.demo", "demo", "The whole cluster on simulators: no token, no key."),
    "migrate": ("kiebot.cli.stores", "migrate_command", "Bring the database's schema up to date."),
    "doctor": ("kiebot.cli.doctor", "doctor", "What keeps kiebot from working here, and what fixes it."),
    "status": ("kiebot.cli.stores", "status", "Who leads, which replicas live, what waits."),
    "config": ("kiebot.cli.stores", "config", "What is set, secrets masked."),
    "telegram": ("kiebot.cli.telegram", "telegram", "The bot's state at Telegram."),
    "models": ("kiebot.cli.models", "models", "The catalogue."),
    "ledger": ("kiebot.cli.ledger", "ledger", "Money: verify, balances, grants, refunds."),
    "jobs": ("kiebot.cli.jobs", "jobs", "Generations and dead letters: list, show, retry, bury."),
    "simulate": ("kiebot.cli.simulate", "simulate", "A simulator as a server on a port."),
}


class LazyGroup(click.Group):
    """Lists all commands, imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kiebot")
def cli() -> None:
    """kiebot: a Telegram bot that sells AI pictures, video and audio, run as a cluster of replicas."""


def main() -> None:
    """The console script. Configuration problems are named, all of them, and end with status 78."""
    from kiebot.settings import ConfigurationError

    try:
        cli(standalone_mode=True)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"configuration: {problem}", err=True)
        sys.exit(EXIT_CONFIGURATION)
