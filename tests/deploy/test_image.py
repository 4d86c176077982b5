"""The image, the example environment and the script that makes compose's secrets."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kiebot.settings import Settings
from tests.deploy.reading import ROOT, SIMULATED_TOKEN, VARIABLES, check_command


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined, comments dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def final_stage() -> list[tuple[str, str]]:
    whole = instructions()
    last = max(index for index, (word, _) in enumerate(whole) if word == "FROM")
    return whole[last:]


def values(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


def health_command() -> list[str]:
    command: list[str] = json.loads(values(final_stage(), "HEALTHCHECK")[0].partition(" CMD ")[2])
    return command


def test_the_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    user, group = values(final_stage(), "USER")[-1].split(":")
    assert int(user) > 999 and int(group) > 999
    assert final_stage()[-1][0] == "CMD"


def test_the_image_starts_one_replica_without_a_shell_and_stops_on_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = json.loads(values(final_stage(), "CMD")[-1])
    assert words == ["kiebot", "run"]
    check_command(words, {}, monkeypatch)
    assert values(final_stage(), "STOPSIGNAL") == ["SIGTERM"]


def test_everything_in_the_image_is_pinned_by_hash_and_nothing_is_built_in_its_last_stage() -> None:
    installs = [part for _, rest in instructions() for part in rest.split("&&") if " install " in part]
    fetched = [part for part in installs if "--no-index" not in part and " pip " in part]
    assert len(fetched) == 2
    assert all("--require-hashes -r requirements" in part for part in fetched)
    assert not any("pip" in rest or "apt" in rest for rest in values(final_stage(), "RUN"))


def test_the_image_gets_only_what_it_is_made_of() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    copied = {name for rest in values(instructions(), "COPY") if "--from" not in rest for name in rest.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


class _Answer(BaseHTTPRequestHandler):
    asked: list[str]
    status: int

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def answer() -> Iterator[tuple[type[_Answer], int]]:
    handler = type("Answer", (_Answer,), {"asked": [], "status": 200})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield handler, server.server_port
        server.shutdown()
        thread.join()


def check_health(environment: dict[str, str]) -> int:
    command = [sys.executable, *health_command()[1:]]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_the_health_check_asks_the_web_server_past_any_proxy(answer: tuple[type[_Answer], int]) -> None:
    handler, port = answer
    environment = {"PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    assert check_health(environment) == 0
    assert handler.asked == ["/healthz"]
    handler.status = 503
    assert check_health(environment) != 0


def test_the_health_check_has_nothing_to_ask_a_replica_without_a_port() -> None:
    assert check_health({}) == 0
    assert check_health({"PORT": ""}) == 0


def test_the_example_environment_names_settings_with_their_defaults_and_holds_no_secret() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line)]
    assert {name for name, _ in pairs} <= VARIABLES
    assert [line for line in lines if re.match(r"[A-Z_]+=", line)] == ["TELEGRAM_BOT_TOKEN=", "KIE_API_KEY="]
    shown = {"PORT", "LOG_FORMAT", "CONTENT_FILTER"}  # examples, or another spelling of the default
    for name, value in pairs:
        default = Settings.model_fields[name.lower()].default
        assert name in shown or not value or float_or_text(value) == float_or_text(str(default)), name


def float_or_text(value: str) -> float | str:
    return float(value) if re.fullmatch(r"[0-9.]+", value) else value


def make_secrets(directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (directory / "deploy").mkdir(exist_ok=True)
    script = directory / "deploy" / "make-secrets"
    script.write_bytes((ROOT / "deploy" / "make-secrets").read_bytes())
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **environment}
    return subprocess.run(
        ["sh", str(script)], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_the_secrets_for_compose_fit_each_other_and_are_made_once(tmp_path: Path) -> None:
    given = {"TELEGRAM_BOT_TOKEN": SIMULATED_TOKEN, "KIE_API_KEY": "key"}
    assert make_secrets(tmp_path, given).returncode == 0
    made = {path.name: path.read_text().strip() for path in (tmp_path / "secrets").iterdir()}
    assert made["telegram_bot_token"] == SIMULATED_TOKEN
    assert urlsplit(made["database_url"]).password == made["postgres_password"]
    assert made["valkey_auth"] == f"requirepass {urlsplit(made['redis_url']).password}"
    assert len(made["postgres_password"]) == 48
    assert make_secrets(tmp_path, {"TELEGRAM_BOT_TOKEN": "other", "KIE_API_KEY": "other"}).returncode == 0
    assert made == {path.name: path.read_text().strip() for path in (tmp_path / "secrets").iterdir()}


def test_the_secrets_are_readable_for_containers_and_closed_to_everybody_else(tmp_path: Path) -> None:
    make_secrets(tmp_path, {"TELEGRAM_BOT_TOKEN": SIMULATED_TOKEN, "KIE_API_KEY": "key"})
    directory = tmp_path / "secrets"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o644}
    assert (directory / ".gitignore").read_text() == "*\n"


def test_without_a_terminal_a_missing_secret_is_named(tmp_path: Path) -> None:
    done = make_secrets(tmp_path, {"TELEGRAM_BOT_TOKEN": SIMULATED_TOKEN})
    assert done.returncode == 2
    assert "KIE_API_KEY" in done.stderr
