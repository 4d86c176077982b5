"""Who is knocking: signatures, their window, and the id they cover."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from kiebot.kie.callbacks import MAX_BODY_BYTES, CallbackVerifier, Knock, sign

KEY = "whk_test_key"
TASK = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
NOW = 1_790_000_000
BODY = json.dumps({"code": 200, "data": {"taskId": TASK, "state": "success"}}).encode()


def signed(task_id: str = TASK, at: int = NOW, key: str = KEY) -> dict[str, str]:
    return {"X-Webhook-Timestamp": str(at), "X-Webhook-Signature": sign(key, task_id, at)}


def check(headers: dict[str, str], body: bytes = BODY, *, key: str | None = KEY, now_s: float = NOW) -> Knock:
    return CallbackVerifier(key).check(headers, body, now_s=now_s)


def test_the_recipe_gives_the_known_signature() -> None:
    assert sign(KEY, TASK, NOW) == "oICjFNGSnCXzXrbjVhiaNLcP50BGWPlgiqt6aOaZiOI="


def test_a_signed_callback_yields_its_task() -> None:
    assert check(signed()) == Knock(TASK, is_signed=True, stamp=str(NOW))
    assert check({name.upper(): value for name, value in signed().items()}) == Knock(
        TASK, is_signed=True, stamp=str(NOW)
    )


@pytest.mark.parametrize(
    "body",
    [{"data": {"taskId": TASK}}, {"data": {"task_id": TASK}}, {"taskId": TASK}, {"task_id": TASK, "data": None}],
)
def test_the_id_is_found_under_every_spelling(body: object) -> None:
    assert check(signed(), json.dumps(body).encode()) == Knock(TASK, is_signed=True, stamp=str(NOW))
    assert check({}, json.dumps(body).encode(), key=None) == Knock(TASK)


def test_only_the_id_that_was_signed_is_believed() -> None:
    body = json.dumps({"data": {"taskId": OTHER, "task_id": TASK}}).encode()
    assert check(signed(), body) == Knock(TASK, is_signed=True, stamp=str(NOW))


def test_an_altered_body_changes_nothing_but_the_body() -> None:
    body = json.dumps({"data": {"taskId": TASK, "resultJson": "https://evil.example"}}).encode()
    assert check(signed(), body) == Knock(TASK, is_signed=True, stamp=str(NOW))


def test_the_window_is_five_minutes_both_ways() -> None:
    for age_s, refused in ((300, None), (301, "stale"), (-300, None), (-301, "stale")):
        assert check(signed(at=NOW - age_s)).refused == refused


@pytest.mark.parametrize("timestamp", ["", "now", "-5", "1e9", "１７９０００００００", "9" * 5000, "1790000000.0"])
def test_a_timestamp_that_is_no_number_is_refused(timestamp: str) -> None:
    assert check({**signed(), "X-Webhook-Timestamp": timestamp}).refused in ("stale", "unsigned")


def test_forged_callbacks_are_refused() -> None:
    hexadecimal = hmac.new(KEY.encode(), f"{TASK}.{NOW}".encode(), hashlib.sha256).hexdigest()
    body_signed = base64.b64encode(hmac.new(KEY.encode(), BODY, hashlib.sha256).digest()).decode()
    for signature in (hexadecimal, body_signed, sign("other key", TASK, NOW), sign(KEY, OTHER, NOW), "é" * 44, "="):
        assert check({**signed(), "X-Webhook-Signature": signature}) == Knock(refused="forged")


def test_with_a_key_an_unsigned_callback_is_refused_and_without_one_it_passes() -> None:
    assert check({}) == Knock(refused="unsigned")
    assert check({"X-Webhook-Timestamp": str(NOW)}) == Knock(refused="unsigned")
    assert check({}, key=None) == Knock(TASK)
    assert check({}, key="") == Knock(TASK)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        b'{"data": {"taskId": ["x"]}}',
        b'{"taskId": "a b"}',
        b'{"taskId": "' + b"x" * 129 + b'"}',
    ],
)
def test_a_body_without_a_usable_id_is_malformed(body: bytes) -> None:
    assert check({}, body, key=None) == Knock(refused="malformed")
    assert check(signed(), body) == Knock(refused="malformed")


def test_a_huge_body_is_not_even_read() -> None:
    assert check(signed(), b" " * (MAX_BODY_BYTES + 1)) == Knock(refused="too_large")
