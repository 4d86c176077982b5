"""Is this knock KIE's? Pure verification of a callback; what it yields is a task id to ask about, never a result.

KIE signs `<task id>.<timestamp>` and nothing else, so even a valid signature says nothing of the body: whoever listens
asks recordInfo before acting. Without a key in KIE's console callbacks come unsigned; then the unguessable attempt id
in the callback address is all the protection there is, which is enough for a knock.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from kiebot.kie.wire import task_id_of

WINDOW_S = 300.0
MAX_BODY_BYTES = 256 * 1024
_TIMESTAMP = "x-webhook-timestamp"
_SIGNATURE = "x-webhook-signature"


@dataclass(frozen=True, slots=True)
class Knock:
    """A callback after verification. `refused` is a fixed word for counting, or None when it may be acted upon."""

    task_id: str | None = None
    is_signed: bool = False
    stamp: str = ""  # the second that was signed, as it was sent
    refused: str | None = None  # too_large | malformed | unsigned | stale | forged


class CallbackVerifier:
    """Verifies callbacks against KIE's webhook key; with no key, every well-formed callback passes as unsigned."""

    def __init__(self, key: str | None) -> None:
        self._key = key.encode() if key else None

    def check(self, headers: Mapping[str, str], body: bytes, *, now_s: float) -> Knock:
        """Judge one callback.

        Args: headers, under any spelling of case; body, as received; now_s, Unix seconds.
        """
        if len(body) > MAX_BODY_BYTES:
            return Knock(refused="too_large")
        ids = _task_ids(body)
        if self._key is None:
            return Knock(ids[0]) if ids else Knock(refused="malformed")
        lowered = {name.lower(): value.strip() for name, value in headers.items()}
        timestamp, signature = lowered.get(_TIMESTAMP, ""), lowered.get(_SIGNATURE, "")
        if not timestamp or not signature:
            return Knock(refused="unsigned")
        if not _is_fresh(timestamp, now_s):
            return Knock(refused="stale")
        return _signed_knock(self._key, ids, timestamp, signature)


def sign(key: str, task_id: str, timestamp: int | str) -> str:
    """The signature KIE would send for this task at this Unix second: standard base64 of HMAC-SHA256."""
    return _signature(key.encode(), task_id, str(timestamp))


def _signed_knock(key: bytes, ids: tuple[str, ...], timestamp: str, signature: str) -> Knock:
    """Only the id that the signature covers is believed, whatever other ids the body may name."""
    given = signature.encode("utf-8", "replace")
    matches = [i for i in ids if hmac.compare_digest(_signature(key, i, timestamp).encode(), given)]
    if matches:
        return Knock(matches[0], is_signed=True, stamp=timestamp)
    return Knock(refused="forged" if ids else "malformed")


def _signature(key: bytes, task_id: str, timestamp: str) -> str:
    digest = hmac.new(key, f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def _is_fresh(timestamp: str, now_s: float) -> bool:
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12
    return is_number and abs(now_s - int(timestamp)) <= WINDOW_S


def _task_ids(body: bytes) -> tuple[str, ...]:
    """Every id the body names, most trusted spelling first; KIE's families differ in where they put it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(value, dict):
        return ()
    data = value.get("data")
    inner = data if isinstance(data, dict) else {}
    named = (inner.get("taskId"), inner.get("task_id"), value.get("taskId"), value.get("task_id"))
    return tuple(dict.fromkeys(i for n in named if (i := task_id_of(n)) is not None))
