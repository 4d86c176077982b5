"""The webhook signature: its sender knew the key, for one task id at one second. It says nothing of the body."""

import base64
import hashlib
import hmac

TIMESTAMP_HEADER = "X-Webhook-Timestamp"
SIGNATURE_HEADER = "X-Webhook-Signature"


def sign(key: str, task_id: str, timestamp: int) -> str:
    """Base64 of HMAC-SHA256 over `<task id>.<Unix seconds>`, keyed with the UTF-8 bytes of the webhook key."""
    return base64.b64encode(_digest(key, task_id, timestamp)).decode()


def sign_in_hex(key: str, task_id: str, timestamp: int) -> str:
    """The same digest in hexadecimal: a mistake seen in the wild, which a receiver must refuse."""
    return _digest(key, task_id, timestamp).hex()


def signed_headers(key: str | None, task_id: str, timestamp: int) -> dict[str, str]:
    """Both headers, or none when no key is configured."""
    if not key:
        return {}
    return {TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: sign(key, task_id, timestamp)}


def _digest(key: str, task_id: str, timestamp: int) -> bytes:
    return hmac.new(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
