"""A random walk over the real ledger: Hypothesis chooses the steps, a dictionary says what must come of them.

One sequence is one transaction that is rolled back in the end, so the tables stay empty and small; each step is a
savepoint, as each of them is a transaction in life. After every step one statement checks all invariants and brings a
digest of every row of money and the balances. A step that was refused, or repeats another, must leave the digest alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kiebot.errors import KeyReused, Refused
from kiebot.generation.effects import apply
from kiebot.generation.machine import Broke, Cancelled, Event, Finished
from kiebot.generation.model import Order, Quoted, State
from kiebot.generation.pricing import settle
from kiebot.generation.service import accept
from kiebot.generation.tools import Limits
from kiebot.ledger.entries import Contra
from kiebot.storage.transaction import Transaction
from kiebot.storage.verify import AT_ONCE

USERS = (1, 2, 3)
KEYS = ("gift", "promo", "take")

# What a refused or repeated step must not touch. Whoever adds a table of money adds it here.
MONEY = (
    *("accounts", "postings", "entries", "holds", "settlements", "attempts", "outbox", "cards"),
    "(SELECT id, state, finished_at, holds_running_slot FROM generations)",
)
_DIGEST = " || ".join(f"(SELECT coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '') FROM {m} t)" for m in MONEY)
_LOOK = text(f"""
    SELECT * FROM ({AT_ONCE}) AS broken (place, row)
    UNION ALL SELECT '#digest', {_DIGEST}
    UNION ALL SELECT key, concat_ws('/', available, held, running, open_count) FROM accounts WHERE key LIKE 'wallet:%'
""")
_AGE = text("UPDATE holds SET expires_at = now() - interval '1 second' WHERE generation_id = :id")
# Within a walk a hold may be made older, and nothing else be changed: no ALTER TABLE, which costs every plan.
_LET_AGE = text("""
    CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('walk.ages', true) = TG_TABLE_NAME THEN RETURN NULL; END IF;
        RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
    END $$
""")
_AGING = text("SELECT set_config('walk.ages', :table, true)")

users = st.sampled_from(USERS)
amounts = st.integers(0, 5000)


@dataclass
class Wallet:
    """What a user must have."""

    available: int = 0
    held: int = 0
    running: int = 0
    open_count: int = 0

    def __str__(self) -> str:
        return f"{self.available}/{self.held}/{self.running}/{self.open_count}"


@dataclass
class Bought:
    """One generation, as the dictionary knows it."""

    id: UUID
    user: int
    quote: Quoted
    has_slot: bool = False
    is_open: bool = True


Step = Callable[[Transaction], Awaitable[object]]


@dataclass
class Books:
    """The real tables, one open transaction on them."""

    loop: asyncio.AbstractEventLoop
    connection: AsyncConnection
    digest: str = ""

    def run(self, step: Step) -> object:
        """One step in a savepoint. An error undoes it and is returned."""
        return self.loop.run_until_complete(self._run(step))

    async def _run(self, step: Step) -> object:
        savepoint = await self.connection.begin_nested()
        try:
            result = await step(Transaction(self.connection))
        except (Refused, KeyReused) as error:
            await savepoint.rollback()
            return error
        await savepoint.commit()
        return result

    def look(self) -> dict[str, str]:
        """Balances by account. Raises: AssertionError, when an invariant is broken."""
        rows = self.loop.run_until_complete(self._look())
        broken = [row for row in rows if row[0] != "#digest" and not row[0].startswith("wallet:")]
        assert not broken, broken
        self.digest = next(row[1] for row in rows if row[0] == "#digest")
        return {place: row for place, row in rows if place.startswith("wallet:")}

    async def _look(self) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in await self.connection.execute(_LOOK)]


@dataclass
class Tally:
    """How far the walks came, over all sequences of this process."""

    sequences: int = 0
    steps: int = 0
    refused: int = 0
    repeated: int = 0

    def add(self, other: Tally) -> None:
        for name in ("sequences", "steps", "refused", "repeated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class LedgerWalk(RuleBasedStateMachine):
    """`walk` gives it its tables. Steps for more kinds of money are rules like these: each comes down to `must`."""

    open_books: Callable[[], Books]
    close_books: Callable[[Books], None]
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.books = type(self).open_books()
        self.wallets = {user: Wallet() for user in USERS}
        self.bought: list[Bought] = []
        self.grants: dict[str, tuple[int, int, str, Contra]] = {}
        self.calls: list[Step] = []  # every one that took effect, to be repeated at any time
        self.tally.sequences += 1

    @initialize(start=st.tuples(*(st.integers(0, 20_000) for _ in USERS)))
    def begin(self, start: tuple[int, ...]) -> None:
        self.books.look()
        for user, amount in zip(USERS, start, strict=True):
            if amount:
                self.grant(user, amount, "start", fresh=True)

    def teardown(self) -> None:
        """Repeating all that ever took effect, in order, changes nothing."""
        try:
            if self.books.digest:
                for call in self.calls:
                    self.books.run(call)
                before = self.books.digest
                self.books.look()
                assert self.books.digest == before, "the repeated prefix changed something"
        finally:
            type(self).close_books(self.books)

    # The steps

    @rule(user=users, amount=st.integers(-3000, 9000).filter(bool), key=st.sampled_from(KEYS), fresh=st.booleans())
    def grant(self, user: int, amount: int, key: str, fresh: bool) -> None:
        """Anew, again, or a key that meant something else."""
        key = f"{key}{len(self.grants)}" if fresh else key
        facts = (user, amount, "walk", Contra.PROMOTIONS if amount % 2 else Contra.ADJUSTMENTS)
        wallet = self.wallets[user]

        async def call(tx: Transaction) -> bool:
            return await tx.ledger.grant(key, user, amount, reason=facts[2], actor="t", source=facts[3])

        if key in self.grants:
            self.must(call, False if self.grants[key] == facts else KeyReused, changes=False)
        elif wallet.available + amount < 0:
            self.must(call, Refused, changes=False)
        else:
            wallet.available += amount
            self.grants[key] = facts
            self.must(call, True)

    @rule(user=users, price=amounts, is_maximum=st.booleans(), most=st.sampled_from((1, 2, 4, 20)), id=st.uuids())
    def hold(self, user: int, price: int, is_maximum: bool, most: int, id: UUID) -> None:
        if any(bought.id == id for bought in self.bought):
            return
        wallet, quote = self.wallets[user], Quoted(price // 2, price, is_maximum)
        order = Order(id, f"press:{id}", user, user, "m", {}, quote, "en")

        async def call(tx: Transaction) -> UUID:
            return (await accept(tx, order, Limits(open=most))).id

        if wallet.open_count >= most or wallet.available < price:
            code = "too_many_open" if wallet.open_count >= most else "not_enough"
            refused = self.must(call, Refused, changes=False)
            assert isinstance(refused, Refused) and refused.code == code
            return
        wallet.available -= price
        wallet.held += price
        wallet.open_count += 1
        self.bought.append(Bought(id, user, quote))
        self.must(call, id)

    @precondition(lambda self: self.bought)
    @rule(which=st.integers(0, 10**6), most=st.integers(1, 3))
    def take_slot(self, which: int, most: int) -> None:
        bought = self.one(which)
        wallet = self.wallets[bought.user]

        async def call(tx: Transaction) -> bool:
            if not await tx.generations.mark_slot(bought.id):
                return False
            if await tx.ledger.take_slot(bought.user, most=most):
                return True
            await tx.generations.unmark_slot(bought.id)
            return False

        taken = bought.is_open and not bought.has_slot and wallet.running < most
        if taken:
            wallet.running += 1
            bought.has_slot = True
        self.must(call, taken, changes=taken, again=False)

    @precondition(lambda self: any(bought.has_slot for bought in self.bought))
    @rule(which=st.integers(0, 10**6))
    def give_slot(self, which: int) -> None:
        running = [bought for bought in self.bought if bought.has_slot]
        bought = running[which % len(running)]

        async def call(tx: Transaction) -> None:
            await tx.generations.unmark_slot(bought.id)
            await tx.ledger.give_slot(bought.user)

        self.wallets[bought.user].running -= 1
        bought.has_slot = False
        self.must(call, None, again=False)

    @precondition(lambda self: self.bought)
    @rule(which=st.integers(0, 10**6), consumed=st.none() | st.integers(0, 6000))
    def capture(self, which: int, consumed: int | None) -> None:
        """A success comes in; of a maximum only what was consumed is taken. It may be late, or the second one."""
        bought = self.one(which)
        self.ends(bought, Finished(("http://x/1.png",), None, consumed), taken=settle(bought.quote, consumed))

    @precondition(lambda self: self.bought)
    @rule(which=st.integers(0, 10**6), event=st.sampled_from((Broke("server"), Cancelled())))
    def void(self, which: int, event: Event) -> None:
        self.ends(self.one(which), event, taken=0)

    @precondition(lambda self: self.bought)
    @rule(which=st.integers(0, 10**6))
    def expire(self, which: int) -> None:
        """The hold runs out by the database's time; the sweep finds it exactly when it is open."""
        bought = self.one(which)

        async def age(tx: Transaction) -> list[UUID]:
            await tx.connection.execute(_AGING, {"table": "holds"})
            await tx.connection.execute(_AGE, {"id": bought.id})
            await tx.connection.execute(_AGING, {"table": ""})
            return await tx.sweeps.expired_holds()

        assert (bought.id in self.books.run(age)) is bought.is_open  # type: ignore[operator]  # the list of ids
        self.books.look()
        self.ends(bought, Broke("timeout"), taken=0)

    @precondition(lambda self: any(not bought.is_open for bought in self.bought))
    @rule(which=st.integers(0, 10**6), amount=st.none() | amounts, is_capture=st.booleans())
    def settle_again(self, which: int, amount: int | None, is_capture: bool) -> None:
        """Whoever lost the race sees that it was settled, whatever they wanted."""
        ended = [bought for bought in self.bought if not bought.is_open]
        bought = ended[which % len(ended)]

        async def call(tx: Transaction) -> int | None:
            if is_capture:
                return await tx.ledger.capture(bought.id, bought.user, amount, slot=bought.has_slot)
            return await tx.ledger.void(bought.id, bought.user, "again", slot=bought.has_slot)

        self.must(call, None, changes=False)

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 10**6))
    def repeat(self, which: int) -> None:
        """Any earlier call that took effect, once more."""
        self.tally.repeated += 1
        self.books.run(self.calls[which % len(self.calls)])
        self.unchanged()

    # What every step comes down to

    def one(self, which: int) -> Bought:
        return self.bought[which % len(self.bought)]

    def ends(self, bought: Bought, event: Event, *, taken: int) -> None:
        async def call(tx: Transaction) -> State:
            return (await apply(tx, bought.id, event)).generation.state

        if not bought.is_open:
            self.repeats_or_gives(call)
            return
        wallet, price = self.wallets[bought.user], bought.quote.price_millicredits
        wallet.held -= price
        wallet.available += price - taken
        wallet.open_count -= 1
        wallet.running -= int(bought.has_slot)
        bought.has_slot = bought.is_open = False
        self.must(call, State.SUCCEEDED if isinstance(event, Finished) else State.FAILED)

    def repeats_or_gives(self, call: Step) -> None:
        """An end that comes after the end moves no money; at most a late result is told."""
        self.books.run(call)
        self.calls.append(call)
        self.balances_are_right()

    def must(self, call: Step, wanted: object, *, changes: bool = True, again: bool = True) -> object:
        """Do it: the result, or the class of the error, is `wanted`; the balances are the dictionary's.

        changes: it may alter rows. again: repeating it later must be harmless.
        """
        result = self.books.run(call)
        if isinstance(wanted, type):
            self.tally.refused += 1
            assert isinstance(result, wanted), result
        else:
            assert result == wanted, (result, wanted)
        if not changes:
            self.unchanged()
            return result
        if again:
            self.calls.append(call)
        self.balances_are_right()
        return result

    def unchanged(self) -> None:
        before = self.books.digest
        self.balances_are_right()
        assert self.books.digest == before, "what was refused or repeated has changed something"

    def balances_are_right(self) -> None:
        self.tally.steps += 1
        found = self.books.look()
        for user, wallet in self.wallets.items():
            assert found.get(f"wallet:{user}", "0/0/0/0") == str(wallet), (user, found, str(wallet))


def walk(
    engine: AsyncEngine,
    loop: asyncio.AbstractEventLoop,
    *,
    seed: int,
    sequences: int,
    steps: int,
    tally: Tally,
    shrinks: bool = True,
) -> None:
    """Walk over the empty, migrated database of `engine`, whose event loop is `loop`. `tally` counts along.
    shrinks: a sequence that failed is made as short as it can be, which may take minutes.

    Raises: whatever a step found broken.
    """

    def open_books() -> Books:
        return Books(loop, loop.run_until_complete(_begun(engine)))

    def close_books(books: Books) -> None:
        loop.run_until_complete(books.connection.close())  # which rolls back

    class Walk(LedgerWalk):
        pass

    Walk.open_books, Walk.close_books, Walk.tally = staticmethod(open_books), staticmethod(close_books), tally
    chosen = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(seeded(seed)(Walk), settings=chosen, _min_steps=steps - 1)


async def _begun(engine: AsyncEngine) -> AsyncConnection:
    """For one sequence: the connection numbers its savepoints from 1 again, and finds their statements prepared."""
    connection = await engine.connect()
    await connection.execute(_LET_AGE)
    return connection
