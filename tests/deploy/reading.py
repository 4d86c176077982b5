"""Reads deploy files as their platforms do: schema, interpolation, merging, and the settings a replica would see."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import Draft202012Validator

from kiebot.cli import cli
from kiebot.settings import SECRETS, Settings, load_settings

ROOT = Path(__file__).parents[2]
VARIABLES = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}
SIMULATED_TOKEN = "700000001:simulated-token-for-compose-only"
_REFERENCE = re.compile(r"(?<!\$)\$\{(?P<name>[A-Z_]+)(:-(?P<default>[^}]*))?\}")
_APPENDED = {"ports", "secrets", "volumes", "networks", "tmpfs"}


def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return loaded


def schema_errors(name: str, schema: str) -> list[str]:
    rules = json.loads((Path(__file__).parent / schema).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(rules)
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(rules).iter_errors(document(name))]


def interpolated(value: object, environment: Mapping[str, str]) -> str:
    """A value of a compose file with its ${NAME:-default} filled in."""

    def filled(match: re.Match[str]) -> str:
        return environment.get(match["name"]) or match["default"] or ""

    return _REFERENCE.sub(filled, str(value)).replace("$$", "$")


def merged(base: Any, over: Any, key: str = "") -> Any:
    """Two compose files as one: maps by key, some lists joined, everything else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {name: merged(base.get(name), over.get(name, base.get(name)), name) for name in base | over}
    if isinstance(base, list) and isinstance(over, list) and key in _APPENDED and base != over:
        return [*base, *(item for item in over if item not in base)]
    return over


def seconds(duration: str) -> float:
    """Of a compose duration in seconds or minutes."""
    number, unit = re.fullmatch(r"([0-9.]+)(s|m)", duration).groups()  # type: ignore[union-attr]  # else: a wrong file
    return float(number) * (60 if unit == "m" else 1)


def check_command(words: list[str], environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command exists and takes these options; nothing is run."""
    program, *arguments = words
    assert program in {script.name for script in entry_points(group="console_scripts")}, program
    if program == "arq":
        assert arguments == ["workers.settings"]
        assert find_spec("workers.settings") is not None
        return
    assert program == "kiebot"
    with monkeypatch.context() as patched:
        _only(environment, patched)
        command: click.Command = cli
        while isinstance(command, click.Group):
            name, command_or_none, arguments = command.resolve_command(click.Context(command), arguments)
            assert name is not None and command_or_none is not None, words
            command = command_or_none
        command.make_context(program, list(arguments))


def settings_from(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, directory: Path) -> Settings:
    """What a replica started with exactly this environment works with."""
    with monkeypatch.context() as patched:
        _only(environment, patched)
        patched.chdir(directory)  # away from a developer's .env
        return load_settings()


def _only(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES | {"RENDER_EXTERNAL_URL", "RENDER_INSTANCE_ID"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
