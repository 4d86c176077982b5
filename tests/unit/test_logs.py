"""The log pipeline: no secret gets out, whoever logs it and however; and no reader can hold the process up."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog
from arq.logs import default_log_config

from kiebot.observe import logs
from kiebot.observe.logs import bound, install, redact, redact_values
from kiebot.observe.outlet import ThreadOutlet
from kiebot.observe.redaction import Redactor

TOKEN = "7654321098:AAFcanary0canary1canary2canary3_-xyz"
KIE_KEY = "c0ffee00c0ffee00c0ffee00c0ffee00"
PASSWORD = "p@ss/wörd-canary"
DATABASE = "postgresql://kiebot:p%40ss%2Fw%C3%B6rd-canary@db.example:5432/kiebot"
CANARIES = (TOKEN, TOKEN.split(":")[1], KIE_KEY, PASSWORD, "p%40ss%2Fw%C3%B6rd-canary", "rd-canary")

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging is global to the process; what a test changed is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in (*logs.QUIET, "httpcore.http11", "arq")}
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    monkeypatch.setattr(logs, "_redactor", Redactor())
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()


class Told(io.StringIO):
    """Where the lines go."""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def line(self) -> dict[str, Any]:
        [line] = self.lines()
        return line


@pytest.fixture(params=["json", "console"])
def form(request: pytest.FixtureRequest) -> logs.LogFormat:
    chosen: logs.LogFormat = request.param
    return chosen


@pytest.fixture
def told() -> Told:
    return Told()


def _install(told: io.StringIO, *, level: str = "INFO", form: logs.LogFormat = "json") -> None:
    install(level=level, log_format=form, secrets=[TOKEN, KIE_KEY, DATABASE], stream=told)


def _assert_clean(text: str) -> None:
    assert [canary for canary in CANARIES if canary in text] == []


class TestSecrets:
    def test_a_secret_in_a_message_is_hidden(self, told: Told, form: logs.LogFormat) -> None:
        _install(told, form=form)
        logging.getLogger("anybody").info(f"token is {TOKEN}, key is {KIE_KEY}, password is {PASSWORD}")
        log.info(f"a.{TOKEN}")
        assert told.getvalue().count("[redacted]") == 4
        _assert_clean(told.getvalue())

    def test_a_secret_in_arguments_and_fields_is_hidden(self, told: Told, form: logs.LogFormat) -> None:
        _install(told, form=form)
        nested = {"headers": [("authorization", f"Bearer {KIE_KEY}")], "password": PASSWORD}
        logging.getLogger("anybody").warning("%s and %r", TOKEN, nested, extra={"more": nested})
        log.warning("a.b", token=TOKEN, nested=nested, raw=KIE_KEY.encode())
        log.warning("a.%s", KIE_KEY)
        assert len(told.getvalue().splitlines()) == 3
        _assert_clean(told.getvalue())

    def test_a_secret_in_bound_context_is_hidden(self, told: Told, form: logs.LogFormat) -> None:
        _install(told, form=form)
        with bound(where=DATABASE):
            log.info("a.b")
        assert "db.example" in told.getvalue()  # the host is what an operator needs to see
        _assert_clean(told.getvalue())

    def test_a_secret_in_exceptions_and_tracebacks_is_hidden(self, told: Told, form: logs.LogFormat) -> None:
        _install(told, form=form)

        def fail() -> None:
            local = PASSWORD
            try:
                raise OSError(f"cannot reach {DATABASE}")
            except OSError as error:
                error.add_note(f"used {TOKEN}")
                raise ValueError(f"bad {KIE_KEY} {local}") from error

        for say in (log.exception, logging.getLogger("anybody").exception):
            try:
                fail()
            except ValueError:
                say("a.failed")
        assert told.getvalue().count("in fail") == 2 * 2  # the whole chain is told, twice
        assert "db.example" in told.getvalue()
        _assert_clean(told.getvalue())

    def test_tracebacks_show_no_local_variables(self, told: Told, form: logs.LogFormat) -> None:
        _install(told, form=form)
        prompt = "".join(["a cat ", "on a tram"])
        try:
            raise ValueError(len(prompt))
        except ValueError:
            log.exception("a.failed")
        assert "a cat on a tram" not in told.getvalue()

    def test_unknown_secrets_are_known_by_what_they_look_like(self, told: Told, form: logs.LogFormat) -> None:
        install(level="INFO", log_format=form, secrets=[], stream=told)
        log.info("a.b", url=f"https://api.telegram.org/bot{TOKEN}/getMe", db=DATABASE)
        log.info("a.b", headers={"Authorization": f"Bearer {KIE_KEY}"}, quoted=TOKEN.replace(":", "%3A"))
        _assert_clean(told.getvalue())

    async def test_httpx_at_level_debug_tells_no_token(self, told: Told, form: logs.LogFormat) -> None:
        _install(told, level="DEBUG", form=form)

        def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(401, headers={"x-echo": KIE_KEY})

        headers = {"Authorization": f"Bearer {KIE_KEY}"}
        url = f"https://api.telegram.org/bot{TOKEN}/getMe"
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), headers=headers) as http:
            response = await http.get(url)
            try:
                response.raise_for_status()
            except httpx.HTTPStatusError:
                log.exception("a.refused", request=response.request, headers=response.headers)
        assert "getMe" in told.getvalue()
        assert "HTTP Request" in told.getvalue()
        _assert_clean(told.getvalue())

    async def test_httpcore_at_level_debug_tells_no_token(self, told: Told) -> None:
        _install(told, level="DEBUG")
        server = await asyncio.start_server(_answer_once, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, httpx.AsyncClient(trust_env=False) as http:
            await http.get(f"http://127.0.0.1:{port}/bot{TOKEN}/getMe", headers={"Authorization": f"Basic {KIE_KEY}"})
        assert any(line["logger"].startswith("httpcore") for line in told.lines())
        _assert_clean(told.getvalue())

    def test_nothing_gets_past_after_arq_has_configured_logging(
        self, told: Told, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _install(told)
        logging.config.dictConfig(default_log_config(verbose=True))
        _install(told)
        logging.getLogger("arq.worker").warning("job with %s", TOKEN)
        assert told.line()["event"] == "job with [redacted]"
        assert logging.getLogger("arq").handlers == []
        captured = capsys.readouterr()
        assert captured.out + captured.err == ""

    def test_nothing_gets_past_a_configuration_that_disables_and_diverts(self, told: Told) -> None:
        diverted = Told()
        logger = logging.getLogger("diverted.library")
        logger.addHandler(logging.StreamHandler(diverted))
        logger.propagate, logger.disabled = False, True
        logging.getLogger().addHandler(logging.StreamHandler(diverted))
        _install(told)
        logger.warning(TOKEN)
        assert diverted.getvalue() == ""
        assert "[redacted]" in told.line()["event"]

    def test_what_nobody_catches_is_told_without_secrets(self, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
        _install(told)
        try:
            raise RuntimeError(f"lost {TOKEN}")
        except RuntimeError as error:
            sys.excepthook(type(error), error, error.__traceback__)
        thread = threading.Thread(target=_raise, args=(KIE_KEY,))
        thread.start()
        thread.join()
        assert [line["event"] for line in told.lines()] == ["process.uncaught", "process.uncaught"]
        assert all("RuntimeError" in line["exception"] for line in told.lines())
        _assert_clean(told.getvalue() + capsys.readouterr().err)

    def test_warnings_go_through_the_pipeline(self, told: Told) -> None:
        _install(told)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn(f"old {KIE_KEY}", UserWarning, stacklevel=1)
            logging.captureWarnings(False)
        assert told.line()["logger"] == "py.warnings"
        _assert_clean(told.getvalue())

    def test_an_old_secret_stays_hidden_after_a_rotation(self, told: Told) -> None:
        _install(told)
        install(level="INFO", log_format="json", secrets=["a-new-secret-entirely"], stream=told)
        log.info("a.b", old=KIE_KEY, new="a-new-secret-entirely")
        _assert_clean(told.getvalue())
        assert "entirely" not in told.getvalue()

    def test_redact_hides_in_texts_that_go_another_way(self) -> None:
        redact_values([KIE_KEY])
        assert redact(f"why: {KIE_KEY}") == "why: [redacted]"


class TestRedactor:
    @pytest.mark.parametrize(
        ("text", "hidden"),
        [
            (f"https://api.telegram.org/file/bot{TOKEN}/photos/1.jpg", "AAFcanary"),
            ("Authorization: Basic a2llYm90OmNhbmFyeQ==", "a2llYm90"),
            ('{"authorization": "canary-key"}', "canary"),
            ("[(b'Authorization', b'Basic canary-key')]", "canary"),
            ('{\\"authorization\\": \\"canary-key\\"}', "canary"),
            ("bearer canary-key-1", "canary"),
            ("redis://:canary@redis:6379/0", "canary"),
            ("postgresql+asyncpg://u:ca:na@ry@db/x", "na@ry"),
            ("https://cdn/x?X-Amz-Signature=canary&y=1", "canary"),
            ("https://x/?a=1&api_key=canary", "canary"),
            ("X-Telegram-Bot-Api-Secret-Token: canary", "canary"),
            ("'x-telegram-bot-api-secret-token': 'canary'", "canary"),
        ],
    )
    def test_hides_by_shape(self, text: str, hidden: str) -> None:
        assert hidden not in Redactor()(text)
        assert "[redacted]" in Redactor()(text)

    @pytest.mark.parametrize(
        "text",
        [
            "lane chat:-1001234567890 at 2026-01-01T10:11:12.123456Z",
            "http://127.0.0.1:8081/readyz",
            "https://host:8443/users/a@b.example",
            "advance:6f1c1d2e-8a54-4f1a-9d3c-0f6c2b7a1e55:3",
            "the bearer of bad news",
            "mail support@example.com: it costs 40 credits",
        ],
    )
    def test_leaves_what_is_no_secret(self, text: str) -> None:
        assert Redactor()(text) == text

    @pytest.mark.parametrize("value", ['quo"te\\back-slash', "пароль-канарейка", "tab\tand space", "per%cent/slash"])
    def test_hides_a_value_in_any_spelling(self, value: str) -> None:
        redactor = Redactor()
        redactor.add([value])
        in_url = quote(value, safe="")
        for text in (value, json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), in_url):
            assert redactor(text).strip("\"'") == "[redacted]"

    def test_a_secret_that_contains_another_is_hidden_whole(self) -> None:
        redactor = Redactor()
        redactor.add(["canary-12", "canary-12-and-more"])
        assert redactor("canary-12-and-more canary-12") == "[redacted] [redacted]"

    def test_hiding_twice_changes_nothing_more(self) -> None:
        redactor = Redactor()
        redactor.add([TOKEN, KIE_KEY, DATABASE])
        texts = [TOKEN, f"Bearer {KIE_KEY}", f"authorization: Basic {KIE_KEY}", DATABASE, "authorization: basic abcdef"]
        for text in texts:
            assert redactor(redactor(text)) == redactor(text)

    def test_a_short_value_is_not_hunted_for_in_every_line(self) -> None:
        redactor = Redactor()
        redactor.add(["kiebot", "", "redis://localhost:6379/0", "postgresql://kiebot:kiebot@db/kiebot"])
        assert redactor("kiebot at redis://localhost:6379/0") == "kiebot at redis://localhost:6379/0"
        assert redactor("postgresql://kiebot:kiebot@db/kiebot") == "postgresql://kiebot:[redacted]@db/kiebot"

    def test_a_long_line_costs_time_in_proportion(self) -> None:
        redactor = Redactor()
        redactor.add([TOKEN, KIE_KEY])
        for piece in ("authorization: ", "1", "://a:", "bearer ", "?x_", "12345:"):
            began = time.perf_counter()
            redactor(piece * (200_000 // len(piece)))
            assert time.perf_counter() - began < 1.0


class TestLines:
    def test_a_json_line_begins_with_what_every_line_has(self, told: Told) -> None:
        _install(told)
        log.warning("lease.lost", reason="deadline", held_s=1.5)
        line = told.line()
        assert list(line)[:4] == ["ts", "level", "event", "logger"]
        assert line["level"] == "warning"
        assert line["event"] == "lease.lost"
        assert line["logger"] == __name__
        assert (line["reason"], line["held_s"]) == ("deadline", 1.5)
        assert line["ts"].endswith("Z")

    def test_russian_stays_readable(self, told: Told) -> None:
        _install(told)
        log.info("a.b", reason="не хватает кредитов")
        assert "не хватает кредитов" in told.getvalue()

    def test_a_newline_in_a_value_never_makes_a_second_line(self, told: Told, form: logs.LogFormat) -> None:
        _install(told, form=form)
        log.info("a.b", name='Eve\n{"level": "info", "event": "ledger.granted"}')
        assert len(told.getvalue().splitlines()) == 1

    def test_context_is_bound_for_a_block_and_the_tasks_it_starts(self, told: Told) -> None:
        async def part() -> None:
            log.info("inner.told")
            logging.getLogger("library").info("said")

        async def work() -> None:
            with bound(replica="r1"), bound(update_id=7):
                await asyncio.create_task(part())
            log.info("outer.told")

        _install(told)
        asyncio.run(work())
        inner, library, outer = told.lines()
        assert (inner["replica"], inner["update_id"]) == ("r1", 7)
        assert (library["replica"], library["update_id"]) == ("r1", 7)
        assert "replica" not in outer

    def test_two_tasks_do_not_see_each_others_context(self, told: Told) -> None:
        async def part(name: str) -> None:
            with bound(part=name):
                await asyncio.sleep(0)
                log.info(name)

        async def work() -> None:
            await asyncio.gather(part("a.a"), part("b.b"))

        _install(told)
        asyncio.run(work())
        assert all(line["part"] == line["event"] for line in told.lines())

    def test_the_level_holds_for_both_kinds_of_loggers(self, told: Told) -> None:
        _install(told, level="WARNING")
        log.info("a.b")
        logging.getLogger("x").info("c")
        log.warning("d.e")
        logging.getLogger("x").warning("f")
        assert [line["event"] for line in told.lines()] == ["d.e", "f"]

    @pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "telegram.ext", "asyncio", "arq.worker"])
    def test_chatty_libraries_are_quiet_unless_debugged(self, told: Told, name: str) -> None:
        _install(told)
        logging.getLogger(name).info("every request")
        assert told.getvalue() == ""
        logging.getLogger(name).warning("worth knowing")
        _install(told, level="DEBUG")
        logging.getLogger(name).debug("every request")
        assert [line["event"] for line in told.lines()] == ["worth knowing", "every request"]
        _install(told)
        logging.getLogger(name).info("every request")
        assert len(told.lines()) == 2

    def test_installing_again_does_not_double_lines(self, told: Told) -> None:
        for _ in range(3):
            _install(told)
        log.info("a.b")
        assert len(told.lines()) == 1

    def test_loggers_bound_before_the_second_install_follow_it(self, told: Told) -> None:
        _install(Told())
        early = log.bind(lease="poller")
        early.info("used.already")
        _install(told)
        early.info("lease.acquired")
        assert told.line()["lease"] == "poller"

    def test_a_line_that_cannot_be_formatted_is_told_of_and_its_contents_are_not(
        self, told: Told, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Broken:
            def __repr__(self) -> str:
                raise RuntimeError(PASSWORD)

        _install(told)
        logging.getLogger("x").info("%d", "canary")
        log.info("a.b", broken=Broken())
        assert [line["event"] for line in told.lines()] == ["logs.unprintable"] * 2
        assert [line["error"] for line in told.lines()] == ["TypeError", "RuntimeError"]
        assert "canary" not in told.getvalue() + capsys.readouterr().err

    def test_characters_that_no_encoding_has_are_told_all_the_same(self) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as reader:
            with os.fdopen(writing, "w") as stream:
                install(level="INFO", log_format="json", secrets=[], stream=stream)
                log.info("a.b", name="lone \ud800 surrogate")
                logging.getLogger().handlers[0].close()
            assert b"surrogate" in reader.read()


class TestOutlet:
    def test_lines_arrive_whole_and_in_order(self) -> None:
        reading, writing = os.pipe()
        outlet = ThreadOutlet(writing)
        lines = [f"{number} " + "x" * 100 for number in range(300)]
        for line in lines:
            outlet.put(line)
        assert outlet.flush(2.0)
        outlet.close(1.0)
        with os.fdopen(reading) as reader:
            assert reader.read().splitlines() == lines

    def test_a_reader_that_stops_costs_lines_and_never_time(self) -> None:
        reading, writing = os.pipe()
        outlet = ThreadOutlet(writing, max_waiting_bytes=100_000)
        for number in range(5_000):  # who waited for the reader would wait for ever
            outlet.put(f"{number:04} " + "x" * 95)
        dropped = outlet.dropped
        assert dropped > 0
        assert not outlet.flush(0.01)
        with os.fdopen(reading) as reader:  # and reads on
            kept = [reader.readline() for _ in range(5_000 - dropped)]
            assert kept == sorted(set(kept))
            assert outlet.flush(2.0)
            outlet.put("back again")
            outlet.close(1.0)
            assert reader.read() == "back again\n"

    def test_dropped_lines_are_told_when_there_is_room_again(self) -> None:
        reading, writing = os.pipe()
        outlet = ThreadOutlet(writing, max_waiting_bytes=50_000)
        handler = logs.PipelineHandler(outlet, logs.make_formatter("json", is_terminal=False))
        while outlet.dropped == 0:
            handler.handle(logging.makeLogRecord({"msg": "x" * 1_000, "levelname": "INFO"}))
        os.set_blocking(reading, False)
        while not outlet.flush(0.01):
            with suppress(BlockingIOError):  # the writing thread had no turn yet
                os.read(reading, 1_000_000)
        handler.handle(logging.makeLogRecord({"msg": "after", "levelname": "INFO"}))
        handler.close()
        os.set_blocking(reading, True)
        with os.fdopen(reading, "rb") as reader:
            text = reader.read()
        *_, notice, after = text.decode().splitlines()
        assert json.loads(notice)["event"] == "logs.dropped"
        assert json.loads(notice)["lines"] == 1
        assert json.loads(after)["event"] == "after"

    def test_a_reader_that_has_gone_raises_nothing(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        outlet = ThreadOutlet(writing)
        outlet.put("to nobody")
        assert outlet.flush(1.0)
        outlet.put("to nobody")
        outlet.close(1.0)
        assert outlet.dropped == 2

    def test_the_thread_ends_and_the_descriptor_is_closed(self) -> None:
        reading, writing = os.pipe()
        others = set(threading.enumerate())  # one that was closed a moment ago may not have ended yet
        outlet = ThreadOutlet(writing)
        [thread] = [each for each in threading.enumerate() if each.name == "log outlet" and each not in others]
        outlet.close(1.0)
        with os.fdopen(reading) as reader:
            assert reader.read() == ""  # returns only when the writing end is closed
        thread.join(1.0)
        assert not thread.is_alive()


PROGRAM = """
import asyncio, os, sys, structlog
from kiebot.observe.logs import install
for _ in range(2):
    install(level="INFO", log_format=None, secrets=[])
log = structlog.get_logger()
async def work():
    for number in range(int(sys.argv[1])):
        log.info("work.done", number=number, filler="x" * 200)
        await asyncio.sleep(0)
asyncio.run(work())
print("finished", file=sys.stderr)
"""


def _run(lines: int, stdout: int | None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(lines)]
    if stdout is None:  # started with its stdout closed, as `>&-` does
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=20, check=False)


class TestProcess:
    def test_every_line_has_been_written_when_the_process_ends(self) -> None:
        ended = _run(50, subprocess.PIPE)
        assert [json.loads(line)["number"] for line in ended.stdout.splitlines()] == list(range(50))
        assert (ended.returncode, ended.stderr) == (0, "finished\n")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110 - a device
    def test_a_full_disk_ends_nothing(self) -> None:
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            ended = _run(50, full.fileno())
        assert (ended.returncode, ended.stderr) == (0, "finished\n")

    def test_a_closed_stdout_ends_nothing(self) -> None:
        ended = _run(50, None)
        assert (ended.returncode, ended.stderr) == (0, "finished\n")

    def test_a_pipe_whose_reader_has_gone_ends_nothing(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        ended = _run(50, writing)
        os.close(writing)
        assert (ended.returncode, ended.stderr) == (0, "finished\n")

    def test_a_pipe_that_nobody_reads_holds_up_neither_the_work_nor_the_end(self) -> None:
        reading, writing = os.pipe()
        ended = _run(1_000, writing)
        os.close(reading)
        os.close(writing)
        assert (ended.returncode, ended.stderr) == (0, "finished\n")


async def _answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(f"HTTP/1.1 200 OK\r\nx-echo: Bearer {KIE_KEY}\r\ncontent-length: 0\r\n\r\n".encode())
    await writer.drain()
    writer.close()


def _raise(text: str) -> None:
    raise RuntimeError(text)
