"""KIE's JSON <-> our types. Pure, and tolerant where KIE has been seen to vary.

Three generations of recordInfo are read: the lean one (nulls, doubly encoded `param`), the documented one (empty texts
instead of nulls, nested objects, `successFlag`), and the newest (`response`, `creditsConsumed`). `costTime`,
`progress` and `param` are never used: their units and their presence are not to be relied on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from kiebot.errors import Permanent, Transient
from kiebot.generation.ports import Submission, TaskReport, TaskState
from kiebot.kie.outputs import decoded, outputs_of, safe_text
from kiebot.kie.refusals import failure_of, query_error

MAX_TASK_ID_CHARS = 128
MAX_DETAIL_CHARS = 300
_MAX_CREDITS = Decimal(10) ** 9  # beyond this a number is noise, and would not fit a bigint of millicredits
_TASK_ID = re.compile(rf"[\x21-\x7e]{{1,{MAX_TASK_ID_CHARS}}}")
_ADDRESS = re.compile(r"https?://\S+")
_SUCCESS_FLAGS = {0: "generating", 1: "success", 2: "fail", 3: "fail"}
_FAILED_TASK_CODES = frozenset({408, 501, 531})  # documented envelope codes of a query whose *task* failed
_UNKNOWN_TASK_TEXTS = ("recordinfo is null", "record does not exist")


@dataclass(frozen=True, slots=True)
class Envelope:
    """KIE's outer object. `code` is the outcome; `text` its sentence, cleaned of what cannot be kept or shown."""

    code: int
    text: str
    data: object
    success: bool | None = None  # the upload host's own word


def read_envelope(body: bytes) -> Envelope | None:
    """The envelope, or None when the body is not one: not JSON, not an object, no whole number as `code`."""
    try:
        value = json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or (code := _whole_number(value.get("code"))) is None:
        return None
    text = value.get("msg") or value.get("message") or ""
    success = value.get("success")
    return Envelope(code, _sentence(text), value.get("data"), success if isinstance(success, bool) else None)


def create_body(submission: Submission) -> bytes:
    """The body of createTask. Raises: Permanent, when the input holds what JSON cannot say."""
    body: dict[str, object] = {"model": submission.model_id, "input": submission.input}
    if submission.callback_url is not None:
        body["callBackUrl"] = submission.callback_url  # this capital B is KIE's
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, default=_plain).encode()
    except (ValueError, TypeError, RecursionError):
        raise Permanent("the input cannot be written as JSON", code="input") from None


def created_task_id(data: object) -> str | None:
    """The id of a task that create has made, or None when there is none worth keeping."""
    if not isinstance(data, Mapping):
        return None
    return task_id_of(data.get("taskId"))


def task_id_of(value: object) -> str | None:
    """An opaque id: up to 128 printable ASCII characters without spaces."""
    return value if isinstance(value, str) and _TASK_ID.fullmatch(value) else None


def report_of(envelope: Envelope, task_id: str, *, retry_after_s: float | None = None) -> TaskReport:
    """What a recordInfo answer says of the task.

    Raises: Transient or one of its kinds, when it says nothing of it (overload, refused key, another task's record).
    """
    data = decoded(envelope.data)
    if envelope.code == 200:
        return _report(data, task_id)
    if envelope.code in _FAILED_TASK_CODES:
        return _failed(data if isinstance(data, Mapping) else {}, envelope.text, envelope.code)
    if _is_unknown_task(envelope):
        return TaskReport(TaskState.MISSING, detail=envelope.text or None)
    raise query_error(envelope.code, envelope.text, retry_after_s=retry_after_s)


def millicredits_of(value: object) -> int | None:
    """Credits, a number or text of one, as whole millicredits (rounded down). None when it is neither."""
    credits = _number(value)
    if credits is None or abs(credits) > _MAX_CREDITS:
        return None
    return int((credits * 1000).to_integral_value(rounding="ROUND_FLOOR"))


def link_body(url: str) -> bytes:
    """The request for a signed link to a result."""
    return json.dumps({"url": url}).encode()


def web_address(value: object) -> str | None:
    """The value when it is one web address, else None."""
    urls = outputs_of([value]).urls
    return urls[0] if urls else None


def _report(data: object, task_id: str) -> TaskReport:
    if data is None or data == "":
        return TaskReport(TaskState.MISSING)
    if not isinstance(data, Mapping):
        raise Transient("recordInfo: the record is not an object")
    if (named := data.get("taskId")) is not None and named != task_id:
        raise Transient("recordInfo: the record of another task")
    match _state_word(data):
        case "success":
            return _succeeded(data)
        case "fail":
            return _failed(data, "", None)
        case _:  # a word we do not know is not an end
            return TaskReport(TaskState.RUNNING, consumed_millicredits=_consumed(data))


def _is_unknown_task(envelope: Envelope) -> bool:
    """422 has many meanings, so its sentence decides. 404 is documented for an unknown task without a sentence; with
    another one it may speak of a path."""
    if envelope.code == 404 and not envelope.text:
        return True
    return envelope.code in (404, 422) and any(part in envelope.text.lower() for part in _UNKNOWN_TASK_TEXTS)


def _state_word(data: Mapping[str, object]) -> str:
    state = data.get("state")
    if isinstance(state, str) and state.strip():
        return state.strip().lower()
    flag = _whole_number(data.get("successFlag"))
    return _SUCCESS_FLAGS.get(flag, "") if flag is not None else ""


def _succeeded(data: Mapping[str, object]) -> TaskReport:
    outputs = outputs_of(data.get("resultJson"), data.get("response"))
    consumed = _consumed(data)
    if not outputs:
        return TaskReport(
            TaskState.FAILED,
            failure="empty_result",
            detail="success without any output",
            retryable=True,
            consumed_millicredits=consumed,
        )
    return TaskReport(TaskState.SUCCEEDED, urls=outputs.urls, text=outputs.text, consumed_millicredits=consumed)


def _failed(data: Mapping[str, object], fallback_text: str, fallback_code: int | None) -> TaskReport:
    text = _sentence(data.get("failMsg") or data.get("errorMessage") or fallback_text)
    code = data.get("failCode") or data.get("errorCode") or fallback_code
    failure = failure_of(code, text)
    return TaskReport(
        TaskState.FAILED,
        failure=failure.word,
        detail=text or None,
        retryable=failure.retryable,
        consumed_millicredits=_consumed(data),
    )


def _consumed(data: Mapping[str, object]) -> int | None:
    found = (millicredits_of(data.get(key)) for key in ("creditsConsumed", "consumeCredits"))
    return next((amount for amount in found if amount is not None), None)


def _sentence(value: object) -> str:
    """KIE's words, short. Addresses are cut out: they may name a user's file, or the callback's secret path."""
    return safe_text(_ADDRESS.sub("[address]", value), MAX_DETAIL_CHARS) if isinstance(value, str) else ""


def _whole_number(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and abs(number) < 10**6 and number == int(number) else None


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value) if isinstance(value, float) else value)
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() else None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(type(value).__name__)
