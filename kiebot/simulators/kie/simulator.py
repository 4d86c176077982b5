"""The simulator as one object: built by a test or a command line, called by a server, asked about afterwards."""

import random
from collections.abc import Awaitable, Callable
from typing import Any, Self

import httpx

from kiebot.simulators.clock import RealClock, SimClock
from kiebot.simulators.kie.callbacks import CallbackSender
from kiebot.simulators.kie.catalogue import Catalogue, ModelBook
from kiebot.simulators.kie.control import PREFIX as CONTROL_PREFIX
from kiebot.simulators.kie.control import Control
from kiebot.simulators.kie.discovery import PREFIX as MODELS_PREFIX
from kiebot.simulators.kie.discovery import Discovery
from kiebot.simulators.kie.exchange import Answer, Cut, Exchange, Late, Page, Reply, Responder, Stream
from kiebot.simulators.kie.faults import Faults
from kiebot.simulators.kie.files import PREFIX as FILES_PREFIX
from kiebot.simulators.kie.files import FileStore
from kiebot.simulators.kie.jobs import Jobs
from kiebot.simulators.kie.journal import CREATE_PATH, Entry, Journal
from kiebot.simulators.kie.noise import Noise, answer_of
from kiebot.simulators.kie.outbound import Outbound
from kiebot.simulators.kie.plans import Planner
from kiebot.simulators.kie.purse import Purse, as_credits
from kiebot.simulators.kie.results import ResultMaker
from kiebot.simulators.kie.serving import FileServing
from kiebot.simulators.kie.switches import Switches
from kiebot.simulators.kie.tasks import Ledger, Task, TaskBook
from kiebot.simulators.kie.uploads import Links, Uploads, refused, token_maker
from kiebot.simulators.server import Receive, Scope, Send

Handler = Callable[[Exchange], Awaitable[Reply]]

UPLOAD_KEY_TEXT = "Authentication failed: Invalid API Key"


class KieSimulator:
    """KIE.ai's generation API, upload host and file hosts behind one base URL, over one account.

    Everything random comes from `seed`; the same requests in the same order meet the same fates. Use it as an async
    context manager, or call `aclose()`: it holds an HTTP client and one task per awaited callback.

    Args: api_key, the only key accepted; catalogue, rows or a path, default the shipped data file; clock, default real
        time; credits, the opening balance; duration_scale, a factor on how long tasks run; webhook_key, signs callbacks
        when set; strict_inputs, whether input files must be living files of this service; control, whether `/_sim` is
        served; account, the number in upload paths; transport, how callbacks and URL uploads leave.
    """

    def __init__(
        self,
        *,
        api_key: str = "sim-kie-key",
        catalogue: Catalogue = None,
        seed: int = 0,
        clock: SimClock | None = None,
        credits: float = 100_000.0,
        duration_scale: float = 1.0,
        webhook_key: str | None = None,
        strict_inputs: bool = True,
        rate_limits: bool = True,
        control: bool = False,
        account: str = "108642",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.api_key = api_key
        self.clock: SimClock = clock or RealClock()
        self.switches = Switches(
            duration_scale=duration_scale,
            webhook_key=webhook_key,
            strict_inputs=strict_inputs,
            rate_limits=rate_limits,
        )
        self.faults, self.journal, self.models = Faults(), Journal(), ModelBook(catalogue)
        self._rng = random.Random(seed)
        self._outbound = Outbound(transport)
        self._build(seed, credits, account)
        self._routes = self._table()
        self._control = Control(self) if control else None

    def _build(self, seed: int, credits: float, account: str) -> None:
        clock, switches = self.clock, self.switches
        noise = Noise(self.faults, switches, self._rng)
        self._purse = Purse(clock, credits)
        self.files = FileStore(clock, switches, token_maker(self._rng.getrandbits))
        self._book = TaskBook(clock, switches, self._purse, ResultMaker(self.files, seed))
        self.callbacks = CallbackSender(clock, switches, self._purse, self._outbound)
        self.callbacks.book = self._book
        self._jobs = Jobs(
            models=self.models,
            switches=switches,
            noise=noise,
            clock=clock,
            rng=self._rng,
            planner=Planner(self._rng, seed),
            purse=self._purse,
            book=self._book,
            files=self.files,
            callbacks=self.callbacks,
        )
        self.discovery = Discovery(self.models, switches, noise, clock, seed)
        self._uploads = Uploads(self.files, switches, noise, clock, self._outbound, account=account)
        self._links, self._noise = Links(self.files, noise), noise
        self._serving = FileServing(self.files, self.faults, switches, clock)
        self._responder = Responder(switches, clock)

    # What a test does and asks

    @property
    def tasks(self) -> dict[str, Task]:
        """Every task by its id, as things stand now."""
        self.settle()
        return self._book.tasks

    @property
    def balance(self) -> float:
        """The account's credits at this instant."""
        self.settle()
        return self._purse.read()

    def set_credits(self, credits: float) -> None:
        """Make the balance exactly that."""
        self._purse.set_credits(credits)

    def price(self, model: str, given: dict[str, Any]) -> float:
        """Credits this input would be charged. Raises: KeyError, for an unknown model."""
        found = self.models.get(model)
        if found is None:
            raise KeyError(model)
        return as_credits(self._jobs.price(found, given))

    def fails_next(self, text: str) -> None:
        """The next task made fails: with the first text of a failure class, if `text` names one, else with `text`."""
        self._jobs.failing.append(text)

    def loses_next_answer(self, variant: str = "a") -> None:
        """The answer to the next create is lost. Raises: ValueError, for a variant that is none of `LoseVariant`."""
        self.faults.next_create(f"lose_{variant}")

    async def forge_callback(self, url: str, task_id: str, headers: dict[str, str] | None = None) -> int | None:
        """Post a made-up success as a stranger would. Returns the HTTP status, or None when nobody answered."""
        return await self.callbacks.forge(url, task_id, headers=headers)

    def billed_tasks(self) -> list[Task]:
        """Tasks that were charged and not refunded."""
        return self._book.billed()

    def tasks_by_attempt(self) -> dict[str, list[Task]]:
        """Tasks under the attempt id of their callBackUrl, or of an X-Attempt-Id header."""
        self.settle()
        return self._book.by_attempt()

    def ledger(self) -> Ledger:
        """Counts and sums over all tasks."""
        return self._book.ledger()

    def settle(self) -> None:
        """End every task whose time has come. Requests do this by themselves."""
        self._book.settle_due()

    def reset(self) -> None:
        """Forget scripted faults and the journal; tasks, files and credits stay."""
        self.faults.clear()
        self._jobs.failing.clear()
        self.journal.clear()

    async def aclose(self) -> None:
        """Stop sending callbacks and close the HTTP client."""
        await self.callbacks.aclose()
        await self._outbound.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.aclose()

    # What a server calls

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI program."""
        if scope["type"] != "http":
            return await self._lifespan(receive, send)
        exchange = Exchange(scope, receive, send)
        self.files.hosts.add(exchange.headers.get("host", "localhost"))
        self.settle()
        at = self.clock.now()
        reply = await self._reply(exchange)
        self._record(exchange, at, reply)
        return await self._responder.send(exchange, reply)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return await self.aclose()

    def _table(self) -> dict[str, tuple[str, Handler]]:
        return {
            CREATE_PATH: ("POST", self._jobs.create),
            "/api/v1/jobs/recordInfo": ("GET", self._jobs.query),
            "/api/v1/chat/credit": ("GET", self._credit),
            "/api/v1/common/download-url": ("POST", self._links.create),
            "/api/file-stream-upload": ("POST", self._uploads.stream),
            "/api/file-base64-upload": ("POST", self._uploads.base64),
            "/api/file-url-upload": ("POST", self._uploads.url),
            "/client/v1/model-pricing/page": ("POST", self.discovery.prices),
            "/client/v1/model-pricing/count": ("GET", self.discovery.price_count),
        }

    async def _reply(self, exchange: Exchange) -> Reply:
        path = exchange.path
        if path.startswith(FILES_PREFIX):
            return await self._serving.serve(exchange)
        if self._control is not None and path.startswith(CONTROL_PREFIX):
            return await self._control.answer(exchange)
        if path.startswith("/api/") and not self._knows_key(exchange):
            return refused(401, UPLOAD_KEY_TEXT) if path.startswith("/api/file-") else answer_of(401)
        if path == MODELS_PREFIX or path.startswith(f"{MODELS_PREFIX}/"):
            return await self.discovery.answer(exchange)
        method, handler = self._routes.get(path, ("", None))
        if handler is None:
            return answer_of(404)
        return await handler(exchange) if method == exchange.method else answer_of(405)

    def _knows_key(self, exchange: Exchange) -> bool:
        return exchange.headers.get("authorization") == f"Bearer {self.api_key}"

    async def _credit(self, exchange: Exchange) -> Reply:
        struck = self._noise.reply_to(self._noise.draw("credit"))
        return struck or Answer(data=self._purse.read(self.switches.credit_lag_s))

    def _record(self, exchange: Exchange, at: float, reply: Reply) -> None:
        notes = exchange.notes
        code = reply.code if isinstance(reply, Answer) else None
        entry = Entry(
            at=at,
            method=exchange.method,
            path=exchange.path,
            query=exchange.scope["query_string"].decode("latin-1").replace(self.api_key, "***"),
            code=code,
            outcome=notes.get("outcome") or _outcome(reply),
            carried_key="authorization" in exchange.headers,
            summary=notes.get("summary", {}),
            model=notes.get("model"),
            task_id=notes.get("task_id"),
            attempt_id=notes.get("attempt_id"),
            callback_url=notes.get("callback_url"),
        )
        self.journal.add(entry)


def _outcome(reply: Reply) -> str:
    match reply:
        case Answer(code):
            return str(code)
        case Page(status):
            return f"page {status}"
        case Cut():
            return "cut"
        case Late(_, then):
            return f"late {_outcome(then)}"
        case Stream(status):
            return f"stream {status}"
