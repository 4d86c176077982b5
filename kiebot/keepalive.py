"""How soon the kernel notices that the other end of an idle connection has gone without a word."""

from __future__ import annotations

import socket

_SOON = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 6000}  # s, s, times, ms


def noticed_soon() -> dict[int, int]:
    """TCP options for who must notice it within seven seconds. Names that a platform lacks are left out."""
    return {getattr(socket, name): value for name, value in _SOON.items() if hasattr(socket, name)}
