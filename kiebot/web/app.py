"""The ASGI program: /healthz, /readyz, /metrics, /telegram/webhook, /kie/callback/{attempt}."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kiebot.observe.logs import redact
from kiebot.observe.metrics import CONTENT_TYPE, METRICS
from kiebot.web.body import CLOSE, read_body

log = structlog.get_logger()

Ready = Callable[[], Awaitable[Mapping[str, str]]]
"""What this replica needs, by name: "ok", or what is wrong."""
ReceiveUpdate = Callable[[bytes], Awaitable[None]]
"""Records one update, as it came. When it returns, the update is safe."""
Knock = Callable[[UUID, Mapping[str, str], bytes], Awaitable[int]]
"""Takes a callback (attempt, headers in lower case, body) and gives the HTTP status to answer."""

HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
METRICS_PATH = "/metrics"
WEBHOOK_PATH = "/telegram/webhook"
CALLBACK_PATH = "/kie/callback/"
ROUTES = (HEALTH_PATH, READY_PATH, METRICS_PATH, WEBHOOK_PATH)

MAX_UPDATE_BYTES = 1024 * 1024
MAX_CALLBACK_BYTES = 256 * 1024
READY_WITHIN_S = 5.0
DONE_WITHIN_S = 10.0
RETRY_AFTER_S = 2
SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105 - the name of a header


def make_app(
    *,
    ready: Ready,
    metrics: Callable[[], bytes],
    receive: ReceiveUpdate | None,
    webhook_secret: str | None,
    knock: Knock | None,
) -> ASGIApp:
    """The web part of one replica. Routes without their callable do not exist.

    Raises: ValueError, for a webhook without a secret: anybody could invent updates.
    """
    routes = [
        Route(HEALTH_PATH, _health),
        Route(READY_PATH, _Readiness(ready).answer),
        Route(METRICS_PATH, _metrics(metrics)),
    ]
    if receive is not None:
        if not webhook_secret:
            raise ValueError("a webhook needs a secret")
        endpoint = _webhook(receive, webhook_secret.encode())
        routes.append(Route(WEBHOOK_PATH, endpoint, methods=["POST"]))
    if knock is not None:
        routes.append(Route(CALLBACK_PATH + "{attempt}", _callback(knock), methods=["POST"]))
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return _Counted(app)


async def _health(_request: Request) -> Response:
    """The event loop turns: that is all it says, so that a store's outage never gets a healthy process killed."""
    return PlainTextResponse("ok")


class _Readiness:
    """200 when everything is ok, 503 when not. Many askers at once share one answer: asking costs the stores."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._asking: asyncio.Task[Mapping[str, str]] | None = None

    async def answer(self, _request: Request) -> Response:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        checks = await asyncio.shield(self._asking)
        is_ready = all(state == "ok" for state in checks.values())
        told = {name: redact(state) for name, state in checks.items()}
        return JSONResponse({"ready": is_ready, "checks": told}, status_code=200 if is_ready else 503)

    async def _ask(self) -> Mapping[str, str]:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                return await self._ready()
        except Exception as error:
            log.warning("web.readiness_failed", error=_named(error))
            return {"checks": type(error).__name__}


def _metrics(render: Callable[[], bytes]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return Response(render(), headers={"content-type": CONTENT_TYPE})

    return answer


def _webhook(receive: ReceiveUpdate, secret: bytes) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        shown = request.headers.get(SECRET_HEADER, "").encode()
        if not hmac.compare_digest(shown, secret):
            return Response(status_code=401, headers=CLOSE)
        body = await read_body(request, MAX_UPDATE_BYTES)
        try:
            async with asyncio.timeout(DONE_WITHIN_S):
                await receive(body)
        except Exception as error:  # Telegram keeps what is not acknowledged, and sends it again
            log.warning("webhook.not_recorded", error=_named(error))
            return _later()
        return Response(status_code=200)

    return answer


def _callback(knock: Knock) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        attempt = _attempt(request.path_params["attempt"])
        if attempt is None:
            return Response(status_code=404)
        body = await read_body(request, MAX_CALLBACK_BYTES)
        try:
            async with asyncio.timeout(DONE_WITHIN_S):
                status = await knock(attempt, dict(request.headers), body)
        except Exception as error:
            log.warning("callback.not_taken", attempt=str(attempt), error=_named(error))
            return _later()
        return _later() if status == 503 else Response(status_code=status)

    return answer


def _attempt(text: str) -> UUID | None:
    """Only the form we give out: UUID() alone would also take braces, prefixes and missing hyphens."""
    try:
        attempt = UUID(text)
    except ValueError:
        return None
    return attempt if str(attempt) == text else None


def _later() -> Response:
    return Response(status_code=503, headers={"retry-after": str(RETRY_AFTER_S)})


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class _Counted:
    """Counts every answer by route and status; whatever is no route of ours counts as one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 500  # what the server answers when no answer was begun

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await self._app(scope, receive, noting)
        finally:
            METRICS.http_requests.labels(route=_route_name(scope["path"]), status=str(status)).inc()


def _route_name(path: str) -> str:
    if path.startswith(CALLBACK_PATH):
        return CALLBACK_PATH
    return path if path in ROUTES else "other"
