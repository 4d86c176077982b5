"""One replica: candidate (and poller while it leads), worker, sweepers, heartbeat, web server; supervised together.

It starts in the order that makes claims valid (heartbeat first) and stops in the order that hands over quickest: stop
bidding and polling, release the lease with its doorbell, take no new job, let running steps end, hand the rest back.
"""

from __future__ import annotations

import asyncio
import signal

import structlog

from kiebot import __version__
from kiebot.admin.acts import Rules
from kiebot.bookkeeping import Bookkeeper
from kiebot.bootstrap import LEASE_NAME, Adapters, Services, Stores
from kiebot.bot.application import BotHandler
from kiebot.bot.receipts import Receipts
from kiebot.bot.rendering import BotRenderer
from kiebot.bot.settings import BotSettings
from kiebot.errors import KiebotError, Permanent, Transient
from kiebot.gauges import Gauges, note_backlog, note_books, note_transition
from kiebot.generation.service import Generations
from kiebot.intake.outage import UNREACHABLE_S
from kiebot.intake.poller import PollerStats
from kiebot.jobs.tasks import functions
from kiebot.jobs.worker import Worker
from kiebot.leading import Leading
from kiebot.lease.candidate import Candidate
from kiebot.lease.chronicle import Standing, Transition
from kiebot.observe import logs
from kiebot.observe.metrics import METRICS
from kiebot.settings import Settings
from kiebot.storage.migrate import HEAD, migrate, schema_version
from kiebot.storage.transaction import Database
from kiebot.supervise import Supervisor
from kiebot.sweepers import Heartbeat, Sweeper
from kiebot.terms import TermTeller
from kiebot.visitors import Visitors
from kiebot.web.app import make_app
from kiebot.web.server import serve

log = structlog.get_logger()

STORE_WAIT_S = 1.0
TELEGRAM_PATIENCE_S = 10.0
JOBS_IN_A_RUSH = 4  # of the replica that polls
JOB_TIMEOUT_S = 400.0  # an upload and a createTask, or a download and a send, each with its own deadline


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
        self._candidate: Candidate | None = None
        self._leading = Leading(self._adapters, self._make_room)
        self._terms = TermTeller(self._adapters.database, self._clock, settings.bot_id, settings.replica_id)
        self._services: Services | None = None
        self.worker: Worker | None = None
        self._heartbeat = Heartbeat(
            Database(self._adapters.pulse, self._adapters.queue),
            self._clock,
            self._adapters.incarnation,
            settings.replica_id,
            self._facts,
            on_silence=self._postgres_is_silent,
        )

    @property
    def is_draining(self) -> bool:
        return self._stopping.is_set()

    @property
    def standing(self) -> Standing | None:
        return self._candidate.describe() if self._candidate is not None else None

    @property
    def poller_stats(self) -> PollerStats | None:
        return self._leading.stats

    @property
    def generations(self) -> Generations | None:
        """Once the worker runs."""
        return self._services.generations if self._services is not None else None

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
        sweeper = Sweeper(adapters.database, self._clock, on_backlog=note_backlog, on_books=note_books)
        self._candidate = Candidate(
            adapters.lease_store,
            name=f"{LEASE_NAME}:{settings.bot_id}",
            replica=settings.replica_id,
            clock=self._clock,
            timing=settings.lease_timing(),
            work=self._leading.lead,
            on_transition=self._note_transition,
        )
        self._supervisor.start("heartbeat", self._heartbeat.run)
        self._supervisor.start("worker", lambda: self._work(services))
        self._supervisor.start("sweeper", sweeper.run)
        self._supervisor.start("terms", self._terms.run)
        self._supervisor.start("candidate", self._candidate.run)
        gauges = Gauges(adapters, self._supervisor)
        self._supervisor.start("gauges", lambda: gauges.run(self))
        bookkeeper = Bookkeeper(adapters.database, adapters.payment_providers, Receipts(), self._clock)
        self._supervisor.start("bookkeeper", lambda: bookkeeper.run(self))
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
            payment_terms=settings.payment_terms(),
            welcome_credits_millicredits=settings.welcome_millicredits,
            daily_credits_millicredits=settings.daily_millicredits,
            support_contact=settings.support_contact,
            content_filter=settings.content_filter,
            limits=settings.limits(),
            admins=Rules(settings.admin_ids, settings.admin_grant_millicredits),
            kie_credit_usd=settings.kie_credit_usd,
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
        visitors = Visitors(self._adapters, self)
        app = make_app(
            ready=visitors.readiness,
            metrics=METRICS.render,
            receive=visitors.receive if settings.bot_mode == "webhook" else None,
            webhook_secret=settings.webhook_secret_value,
            knock=visitors.knock if settings.public_url else None,
        )
        port = settings.port
        self._supervisor.start("web", lambda: serve(app, host="0.0.0.0", port=port))  # noqa: S104 - a public server

    # Parts

    async def _work(self, services: Services) -> None:
        adapters, settings = self._adapters, self._settings
        self.worker = Worker(
            functions(services),
            context=services,
            pool=adapters.redis,
            prefix=settings.redis_prefix,
            replica=settings.replica_id,
            max_jobs=settings.max_jobs,
            job_timeout_s=JOB_TIMEOUT_S,
        )
        self._services = services
        await self.worker.async_run()

    def _postgres_is_silent(self, seconds: float) -> None:
        """A holder without Postgres cannot take in what it would fetch. Another replica may reach it.

        Counted from the term's begin: without Postgres for anybody the lease does not go round faster than that.
        """
        candidate, standing = self._candidate, self.standing
        if candidate is not None and standing is not None and min(seconds, standing.held_s) > UNREACHABLE_S:
            candidate.yield_lease(f"postgres has not answered for {seconds:.1f} s")

    def _note_transition(self, transition: Transition) -> None:
        note_transition(transition)
        self._terms.note(transition)

    def _make_room(self, is_rush: bool) -> None:
        """For the poller, by taking few new jobs while Telegram's queue is long."""
        if self.worker is not None:
            most = self._settings.max_jobs
            self.worker.max_jobs = min(most, JOBS_IN_A_RUSH) if is_rush else most

    def _facts(self) -> dict[str, object]:
        """What the heartbeat tells operators."""
        standing = self.standing
        return {
            "version": __version__,
            "mode": self._settings.bot_mode,
            "is_holder": bool(standing and standing.is_holder),
            "term": standing.term if standing else None,
            "held_s": round(standing.held_s, 1) if standing else 0,
            "jobs": self.worker.running if self.worker else 0,
            "slots": self._settings.max_jobs,
            "restarts": dict(self._supervisor.restarts),
            "draining": self._stopping.is_set(),
        }

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
        if self.worker is not None:
            await self._drain(self.worker)
        await self._supervisor.stop("worker")
        await self._supervisor.stop("heartbeat")
        await self._heartbeat.leave()
        await self._supervisor.stop("terms")
        await self._terms.settle()
        await self._supervisor.stop_all()
        await self._adapters.checkouts.settle()
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
