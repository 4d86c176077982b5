"""One replica: candidate (and poller while it leads), worker, sweepers, heartbeat, web server; supervised together.

It starts in the order that makes claims valid (heartbeat first) and stops in the order that hands over quickest: stop
bidding and polling, release the lease with its doorbell, take no new job, let running steps end, hand the rest back.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import structlog
from sqlalchemy import text

from kiebot import __version__
from kiebot.bootstrap import LEASE_NAME, Adapters, Services, Stores
from kiebot.bot.application import BotHandler
from kiebot.bot.menu import menus
from kiebot.bot.rendering import BotRenderer
from kiebot.bot.settings import BotSettings
from kiebot.errors import KiebotError, Permanent, Transient
from kiebot.generation.tools import Limits
from kiebot.intake.poller import Poller
from kiebot.jobs.tasks import functions
from kiebot.jobs.worker import Worker
from kiebot.kie.callbacks import CallbackVerifier
from kiebot.lease.candidate import Candidate
from kiebot.lease.term import Term
from kiebot.observe import logs
from kiebot.observe.metrics import METRICS
from kiebot.settings import Settings
from kiebot.storage.engine import is_outage
from kiebot.storage.migrate import HEAD, migrate, schema_version
from kiebot.storage.sweeps import Backlog
from kiebot.supervise import Supervisor
from kiebot.sweepers import Heartbeat, Sweeper
from kiebot.web.app import make_app
from kiebot.web.server import serve

log = structlog.get_logger()

STORE_WAIT_S = 1.0
TELEGRAM_PATIENCE_S = 10.0
WEBHOOK_CHECK_S = 60.0
DEAF_AFTER_S = 60.0
PROBE_TIMEOUT_S = 2.0


class Replica:
    """Built from settings, run until stopped. `run` returns the exit status."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings = settings
        self._stores = stores
        self._adapters = Adapters(settings, stores)
        self._clock = self._adapters.clock
        self._supervisor = Supervisor(self._clock)
        self._stopping = asyncio.Event()
        self._leaving_now = asyncio.Event()
        self._backlog = Backlog(0.0, 0, 0)
        self._candidate: Candidate | None = None
        self._poller: Poller | None = None
        self._worker: Worker | None = None
        self._heartbeat = Heartbeat(
            self._adapters.database, self._clock, self._adapters.incarnation, settings.replica_id, self._facts
        )
        self._services: Services | None = None

    def request_stop(self) -> None:
        """Drain and leave. Asked a second time: leave at once."""
        if self._stopping.is_set():
            self._leaving_now.set()
        self._stopping.set()

    async def run(self) -> int:
        """Until asked to stop (0), or until a part cannot be kept alive (1)."""
        try:
            self._start_web()
            if not await self._until_stores_are_there():
                return 0
            await self._start_parts()
            return await self._serve()
        finally:
            await self._shut_down()

    async def run_with_signals(self) -> int:
        """`run`, with SIGTERM and SIGINT asking it to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        try:
            return await self.run()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    # Starting

    async def _until_stores_are_there(self) -> bool:
        """Wait, with a word each time, for Postgres and its schema. False: asked to stop meanwhile."""
        while not self._stopping.is_set():
            try:
                if self._stores.engines is not None:
                    await migrate(self._adapters.engine)  # the embedded store belongs to this home alone
                version = await schema_version(self._adapters.engine)
                if version is not None and version >= HEAD:
                    await self._heartbeat.beat()
                    return True
                log.warning("start.waits", store="postgres", why="run `kiebot migrate` first", has=version, needs=HEAD)
            except Transient as error:
                log.warning("start.waits", store="postgres", why=str(error))
            await self._pause(STORE_WAIT_S)
        return False

    async def _start_parts(self) -> None:
        services = Services(self._adapters, *await self._bot())
        adapters, settings = self._adapters, self._settings
        sweeper = Sweeper(adapters.database, self._clock, on_backlog=self._note_backlog)
        self._candidate = Candidate(
            adapters.lease_store,
            name=f"{LEASE_NAME}:{settings.bot_id}",
            replica=settings.replica_id,
            clock=self._clock,
            timing=settings.lease_timing(),
            work=self._lead,
            on_transition=lambda transition: METRICS.lease_transitions.labels(kind=transition.kind).inc(),
        )
        self._supervisor.start("heartbeat", self._heartbeat.run)
        self._supervisor.start("worker", lambda: self._work(services))
        self._supervisor.start("sweeper", sweeper.run)
        self._supervisor.start("candidate", self._candidate.run)
        self._supervisor.start("loop-lag", self._watch_loop)
        log.info(
            "replica.started",
            replica=settings.replica_id,
            incarnation=str(adapters.incarnation),
            version=__version__,
            mode=settings.bot_mode,
            stores=self._stores.described,
        )

    async def _bot(self) -> tuple[BotHandler, BotRenderer]:
        settings = self._settings
        chosen = BotSettings(
            markup=settings.markup,
            bot_username=await self._username(),
            welcome_credits_millicredits=settings.welcome_millicredits,
            support_contact=settings.support_contact,
            content_filter=settings.content_filter,
            limits=Limits(settings.max_running_per_user, settings.max_open_per_user),
        )
        return BotHandler(chosen, settings.bot_id), BotRenderer(chosen)

    async def _username(self) -> str:
        """Asked of Telegram, which may be away at start: then groups and deep links must do without for now."""
        give_up = self._clock.monotonic() + TELEGRAM_PATIENCE_S
        while not self._stopping.is_set():
            try:
                return (await self._adapters.setup.token_state()).username
            except KiebotError as error:
                log.warning("start.waits", store="telegram", why=str(error))
                if self._clock.monotonic() > give_up or isinstance(error, Permanent):
                    break
            await self._pause(STORE_WAIT_S)
        return ""

    def _start_web(self) -> None:
        settings = self._settings
        if settings.port is None:
            return
        app = make_app(
            ready=self._readiness,
            metrics=METRICS.render,
            receive=self._receive if settings.bot_mode == "webhook" else None,
            webhook_secret=settings.webhook_secret_value,
            knock=self._knock if settings.public_url else None,
        )
        port = settings.port
        self._supervisor.start("web", lambda: serve(app, host="0.0.0.0", port=port))  # noqa: S104 - a public server

    # Parts

    async def _work(self, services: Services) -> None:
        adapters, settings = self._adapters, self._settings
        self._worker = Worker(
            functions(services),
            context=services,
            pool=adapters.redis,
            prefix=settings.redis_prefix,
            replica=settings.replica_id,
            max_jobs=settings.max_jobs,
        )
        self._services = services
        await self._worker.async_run()

    async def _lead(self, term: Term) -> None:
        """The holder's work: poll, or keep the webhook."""
        if self._settings.bot_mode == "webhook":
            await self._keep_webhook()
        source = self._adapters.source()
        self._poller = Poller(
            source, self._adapters.inbox, self._adapters.queue, clock=self._clock, prepare=self._prepare_polling
        )
        try:
            await self._poller.run(term)
        finally:
            await source.aclose()

    async def _prepare_polling(self) -> None:
        await self._adapters.setup.ensure_polling()
        await self._sync_commands()

    async def _keep_webhook(self) -> None:
        address = self._settings.webhook_address or ""
        while True:
            try:
                await self._adapters.setup.ensure_webhook(address, self._settings.webhook_secret_value)
                await self._sync_commands()
            except KiebotError as error:
                log.error("webhook.not_set", why=str(error))
                await self._clock.sleep(5.0)
                continue
            await self._clock.sleep(WEBHOOK_CHECK_S)

    async def _sync_commands(self) -> None:
        try:
            await self._adapters.setup.sync_commands(menus())
        except KiebotError as error:  # a menu is no reason not to listen
            log.warning("commands.not_synced", why=str(error))

    async def _watch_loop(self) -> None:
        """How late the event loop comes: what blocks it blocks everybody."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.5)
            METRICS.loop_lag_seconds.set(max(0.0, time.monotonic() - before - 0.5))

    # The web part's questions

    async def _receive(self, raw: bytes) -> None:
        drains = await self._adapters.inbox.record([self._adapters.updates.read(raw)], token=None)
        await self._adapters.queue.drains(drains)

    async def _knock(self, attempt_id: UUID, headers: Mapping[str, str], body: bytes) -> int:
        key = self._settings.kie_webhook_key
        verifier = CallbackVerifier(key.get_secret_value() if key else None)
        knock = verifier.check(headers, body, now_s=self._clock.now().timestamp())
        if knock.refused is not None:
            log.warning("callback.refused", why=knock.refused)
            return 401
        if self._services is None:
            return 503
        try:
            known = await self._services.generations.knock(attempt_id, knock.task_id)
        except Transient:
            return 503
        return 200 if known else 404

    async def _readiness(self) -> Mapping[str, str]:
        """Green on a standby: readiness never depends on the lease."""
        return {
            "replica": "draining" if self._stopping.is_set() else "ok" if self._worker else "starting",
            "postgres": await self._probe(self._ask_postgres),
            "redis": await self._probe(self._ask_redis),
            "updates": self._hearing(),
        }

    async def _ask_postgres(self) -> None:
        async with self._adapters.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def _ask_redis(self) -> None:
        await self._adapters.redis.ping()

    @staticmethod
    async def _probe(ask: Callable[[], Awaitable[None]]) -> str:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await ask()
        except Exception as error:
            return "unreachable" if is_outage(error) else type(error).__name__
        return "ok"

    def _hearing(self) -> str:
        """A holder whose polls do not end is deaf, however alive it looks."""
        if self._candidate is None or not self._candidate.is_holder or self._settings.bot_mode == "webhook":
            return "ok"
        standing = self._candidate.describe()
        last = self._poller.last_completed_poll_at if self._poller else None
        silent_s = (self._clock.now() - last).total_seconds() if last else standing.held_s
        return "ok" if min(silent_s, standing.held_s) < DEAF_AFTER_S else f"no poll ended for {int(silent_s)} s"

    def _facts(self) -> dict[str, object]:
        """What the heartbeat tells operators."""
        standing = self._candidate.describe() if self._candidate else None
        return {
            "version": __version__,
            "mode": self._settings.bot_mode,
            "is_holder": bool(standing and standing.is_holder),
            "term": standing.term if standing else None,
            "held_s": round(standing.held_s, 1) if standing else 0,
            "jobs": self._worker.running if self._worker else 0,
            "slots": self._settings.max_jobs,
            "restarts": dict(self._supervisor.restarts),
            "draining": self._stopping.is_set(),
        }

    def _note_backlog(self, backlog: Backlog) -> None:
        self._backlog = backlog
        METRICS.inbox_oldest_seconds.set(backlog.oldest_update_s)
        METRICS.outbox_pending.set(backlog.outbox)
        METRICS.generations_open.set(backlog.generations)
        METRICS.is_leader.set(1 if self._candidate and self._candidate.is_holder else 0)

    # Stopping

    async def _serve(self) -> int:
        stop = asyncio.create_task(self._stopping.wait())
        failed = asyncio.create_task(self._supervisor.wait())
        try:
            await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
                return 1
            return 0
        finally:
            for task in (stop, failed):
                task.cancel()
            await asyncio.gather(stop, failed, return_exceptions=True)

    async def _shut_down(self) -> None:
        started = self._clock.monotonic()
        self._stopping.set()
        self._supervisor.is_leaving = True
        log.info("replica.draining", replica=self._settings.replica_id)
        await self._supervisor.stop("candidate")  # the lease goes to another replica at once
        await self._supervisor.stop("sweeper")
        if self._worker is not None:
            await self._drain(self._worker)
        await self._supervisor.stop("worker")
        await self._supervisor.stop("heartbeat")
        await self._heartbeat.leave()
        await self._supervisor.stop_all()
        await self._adapters.close()
        took_s = round(self._clock.monotonic() - started, 3)
        log.info("replica.stopped", replica=self._settings.replica_id, took_s=took_s)

    async def _drain(self, worker: Worker) -> None:
        """Let running jobs end; a second request to stop cuts the wait."""
        drain = asyncio.create_task(worker.drain(self._settings.shutdown_grace_s))
        hurry = asyncio.create_task(self._leaving_now.wait())
        await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not drain.done():
            await worker.drain(0.0)
        await asyncio.gather(drain, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        """A wait that a request to stop ends."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def set_up_logs(settings: Settings) -> None:
    """Logs with this configuration's secrets redacted. Safe to call again."""
    logs.install(level=settings.log_level, log_format=settings.log_format, secrets=settings.secret_values())
