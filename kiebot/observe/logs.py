"""One pipeline for every log line of the process: structlog over the standard library's logging.

    with bound(generation_id=str(generation.id)):
        log.info("generation.accepted", price=quote.price)

An event is a fixed noun.verb, facts are fields. On a terminal lines are for people, elsewhere each is one JSON object
with `ts`, `level`, `logger`, `event`. Secrets never get out, whoever logs them: see redaction.py.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from kiebot.observe.outlet import Outlet, open_outlet
from kiebot.observe.redaction import Redactor

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

LogFormat = Literal["console", "json"]

QUIET: dict[str, int] = {
    **dict.fromkeys(("arq", "asyncio", "hpack", "httpcore", "httpx", "telegram"), logging.WARNING),
    "uvicorn": logging.ERROR,  # it warns of every malformed request, and the internet is full of them
}
"""Libraries that tell every request or job: this level and above, except at level DEBUG."""

FLUSH_S = 0.5
"""Waited for lines to be written, twice when the process ends: a stuck reader delays that end by a second."""

_redactor = Redactor()


def install(*, level: str, log_format: LogFormat | None, secrets: Iterable[str], stream: TextIO | None = None) -> None:
    """Send every log line of this process through the pipeline, and through nothing else.

    Handlers that others have added are removed, so it is called again after anything that configures logging (arq's
    command does, after importing our settings). Calling it twice changes nothing.

    Args: level, DEBUG to ERROR; log_format, None for console on a terminal and json elsewhere; secrets, exact values to
        hide from now on, beside all given before; stream, default sys.stdout.
    """
    redact_values(secrets)
    target = stream if stream is not None else sys.stdout
    handler = PipelineHandler(open_outlet(target), make_formatter(log_format, is_terminal=_is_terminal(target)))
    _remove_foreign_handlers()
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else least)
    _configure_structlog()
    _catch_what_nobody_catches()


def redact_values(values: Iterable[str]) -> None:
    """Hide these exact values (of URLs: the passwords) in every line from now on."""
    _redactor.add(values)


def redact(text: str) -> str:
    """The text without secrets, as a log line would show it; for texts that go to operators another way."""
    return _redactor(text)


def bound(**fields: object) -> AbstractContextManager[None]:
    """Adds the fields to every line logged inside the block, by this task and those it starts."""
    return bound_contextvars(**fields)


class PipelineHandler(logging.Handler):
    """Formats, redacts, and hands the line to the outlet. A line that cannot be formatted is told of, never raised."""

    def __init__(self, outlet: Outlet, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._outlet = outlet
        self._told_dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._outlet.dropped > self._told_dropped:
            self._told_dropped = self._outlet.dropped
            self._outlet.put(self._text(_note(logging.WARNING, "logs.dropped", lines=self._told_dropped)))
        self._outlet.put(self._text(record))

    def flush(self) -> None:
        self._outlet.flush(FLUSH_S)

    def close(self) -> None:
        self._outlet.close(FLUSH_S)
        super().close()

    def _text(self, record: logging.LogRecord) -> str:
        try:
            return _redactor(self.format(record))
        except Exception as error:  # a faulty argument: where it was logged is safe to tell, what it held is not
            where = f"{record.name}:{record.lineno}"
            note = _note(logging.ERROR, "logs.unprintable", where=where, error=type(error).__name__)
            return _redactor(self.format(note))


def make_formatter(log_format: LogFormat | None, *, is_terminal: bool) -> logging.Formatter:
    """Renders the events of structlog and the records of everybody else alike."""
    form = log_format or ("console" if is_terminal else "json")
    renderers: list[Processor] = [ProcessorFormatter.remove_processors_meta, _form_exception]
    if form == "json":
        renderers.append(_constants_first)
        renderers.append(structlog.processors.JSONRenderer(ensure_ascii=False, sort_keys=False))
    else:
        # plain tracebacks: pretty ones break lines, which would tear a secret in two, and may show local variables
        plain = structlog.dev.plain_traceback
        renderers.append(
            structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=plain, timestamp_key="ts")
        )
    return ProcessorFormatter(foreign_pre_chain=_common(), processors=renderers, use_get_message=True)


def _common() -> list[Processor]:
    return [
        merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
    ]


def _form_exception(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """The traceback as text, without local variables."""
    return structlog.processors.format_exc_info(_logger, _name, event)


def _constants_first(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """What every line has comes first, so that columns of a log viewer line up."""
    return {**{name: event[name] for name in ("ts", "level", "event", "logger") if name in event}, **event}


def _configure_structlog() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_common(),
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a second install must reach loggers that have been used already
    )


def _remove_foreign_handlers() -> None:
    """Named loggers keep no handler of their own: it would write past the redaction."""
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if not isinstance(logger, logging.Logger):
            continue
        logger.disabled = False
        if logger.handlers:
            logger.propagate = True
            for handler in list(logger.handlers):
                logger.removeHandler(handler)


def _catch_what_nobody_catches() -> None:
    """What the interpreter would print by itself (uncaught exceptions, warnings) goes through the pipeline as well."""
    sys.excepthook = _on_uncaught
    threading.excepthook = lambda args: _on_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = _on_unraisable
    logging.captureWarnings(True)


def _on_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or not issubclass(kind, Exception):  # an interrupt from the keyboard is no crash
        sys.__excepthook__(kind, error or kind(), trace)
        return
    logging.getLogger("kiebot").critical("process.uncaught", exc_info=(kind, error, trace))


def _on_unraisable(args: UnraisableHookArgs) -> None:
    error = args.exc_value
    told = (args.exc_type, error, args.exc_traceback) if error is not None else None
    logging.getLogger("kiebot").error("process.unraisable", exc_info=told)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _note(level: int, event: str, **facts: object) -> logging.LogRecord:
    record = logging.LogRecord(__name__, level, __file__, 0, event, (), None)
    record.__dict__.update(facts)
    return record
