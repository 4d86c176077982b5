"""Connections to the queue's Redis whose every call ends, and the format of what travels over them.

arq's own settings know no socket timeout: against a stopped server (SIGSTOP, a frozen machine) its calls never come
back. Here each stage of a call (a free connection, connecting, one read) has the same deadline and nothing is tried
twice behind the caller's back: a claim repeated by the library would strand the jobs that the first one took. The
loops above retry, with back-off, where they know what they are doing.

Payloads are msgpack with a checked shape. arq's default, pickle, would let whoever can write to Redis run code in
every worker.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict
from urllib.parse import parse_qs, urlsplit

import msgspec
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from kiebot.jobs.keys import QueueKeys

OUTAGES = (RedisError, OSError, TimeoutError)
"""What any Redis call may raise when Redis is away, frozen, full, read-only or refuses us."""

MAX_CONNECTIONS = 20  # small plans allow 50 in all, and a worker's calls are too short to need more
HEALTH_CHECK_S = 15
Plain = int | float | str | bool | None


class Payload(TypedDict):
    """A job as arq writes it, or (the optional part) a result. Names are arq's."""

    t: int | None
    f: str
    a: tuple[Plain, ...]
    k: dict[str, Plain]
    et: int
    s: NotRequired[bool]
    r: NotRequired[Any]
    st: NotRequired[int]
    ft: NotRequired[int]
    q: NotRequired[str]
    id: NotRequired[str]


def make_pool(
    redis_url: str, *, prefix: str, timeout_s: float = 2.0, max_connections: int = MAX_CONNECTIONS
) -> ArqRedis:
    """A client for the queue of `prefix`; connects on first use, close it with `aclose()`.

    Args: redis_url, redis://, rediss:// or unix://, its query may override any option; timeout_s, seconds for each
        stage of a call, so that one against a stopped server ends within two or three times that;
        max_connections, callers beyond it wait for a free one, up to timeout_s.
    Raises: ValueError, for another kind of URL.
    """
    connections = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=HEALTH_CHECK_S,
        lib_name=None,  # CLIENT SETINFO is younger than Redis 7.0, and two round trips per connection
        lib_version=None,
        **_transport_options(redis_url),
    )
    return _client(connections, QueueKeys(prefix).queue)


def blocking_twin(pool: ArqRedis, *, block_s: float) -> ArqRedis:
    """A client beside `pool` for commands that wait up to `block_s` seconds on the server. One at a time.

    Its reads wait that much longer, and a waiting command cannot starve the pool of connections.
    """
    options = dict(pool.connection_pool.connection_kwargs)
    deadline_s = options.get("socket_timeout") or 0.0
    options["socket_timeout"] = block_s + deadline_s
    connections = BlockingConnectionPool(
        max_connections=1, timeout=None, connection_class=pool.connection_pool.connection_class, **options
    )
    return _client(connections, pool.default_queue_name)


def serialize(payload: Mapping[str, Any]) -> bytes:
    """arq's dict as msgpack. Exceptions, which arq puts into results of failed jobs, become their type's name."""
    return _encoder.encode(payload)


def deserialize(data: bytes) -> dict[str, Any]:
    """arq's dict from msgpack; fields of newer versions are ignored.

    Raises: msgspec.DecodeError, for anything that is not msgpack of the expected shape (a pickle, for one).
    """
    return dict(_decoder.decode(data))


def _client(connections: BlockingConnectionPool, queue: str) -> ArqRedis:
    client = ArqRedis(connections, job_serializer=serialize, job_deserializer=deserialize, default_queue_name=queue)
    client.auto_close_connection_pool = True  # the connections are this client's own, so aclose() ends them too
    return client


def _transport_options(redis_url: str) -> dict[str, Any]:
    """What only some kinds of connection accept: keepalive on TCP, host names checked on TLS."""
    parts = urlsplit(redis_url)
    if parts.scheme == "unix":
        return {}
    options: dict[str, Any] = {"socket_keepalive": True, "socket_keepalive_options": _keepalive_options()}
    if parts.scheme == "rediss" and parse_qs(parts.query).get("ssl_cert_reqs") != ["none"]:
        options["ssl_check_hostname"] = True  # off by default in redis-py: any valid certificate would do
    return options


def _keepalive_options() -> dict[int, int]:
    """Probe a silent peer after 15 s, then three times; names that a platform lacks are left out."""
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _encode_other(value: object) -> str:
    if isinstance(value, BaseException):
        return type(value).__name__
    raise NotImplementedError(f"a job cannot carry a {type(value).__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_decoder = msgspec.msgpack.Decoder(Payload)
