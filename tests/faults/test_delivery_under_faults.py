"""The courier while files, Telegram and Postgres come and go. What was paid for must reach the user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from kiebot.botapi.errors import stopped
from kiebot.delivery.card import CardKeeper
from kiebot.delivery.courier import MAX_TRIES, Courier
from kiebot.delivery.outbox import Draft
from kiebot.delivery.ports import Bill, Keyboard, Media, Messenger, Say, Sent
from kiebot.delivery.results import ResultSender
from kiebot.errors import Permanent, RateLimited, Transient
from kiebot.generation.model import Generation
from kiebot.generation.ports import Fetched
from kiebot.jobs.tasks import job_of
from kiebot.store import Store
from kiebot.wakeups import Deliver
from tests.faults.conftest import ShakyStore
from tests.generation.conftest import Rig

CHAT = 70


class Telegram:
    """Takes what it is given and remembers it; may be told to be slow or to refuse."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.files = 0
        self.refusals: list[Exception] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.reached = asyncio.Event()

    async def send_text(self, chat_id: int, text: str, keyboard: Keyboard = ()) -> Sent:
        await self._take()
        self.texts.append(text)
        return Sent(len(self.texts))

    async def edit_text(self, chat_id: int, message_id: int, text: str, keyboard: Keyboard = ()) -> None:
        self.texts.append(text)

    async def delete(self, chat_id: int, message_id: int) -> None:
        return

    async def send_media(self, chat_id: int, media: Media, caption: str, keyboard: Keyboard = ()) -> Sent:
        await self._take()
        self.files += 1
        return Sent(1000 + self.files, (f"file-{self.files}",))

    async def send_bill(self, chat_id: int, bill: Bill) -> Sent:
        return await self.send_text(chat_id, bill.title)

    async def send_album(self, chat_id: int, media: Sequence[Media]) -> Sent:
        return await self.send_media(chat_id, media[0], "")

    async def answer_press(self, callback_query_id: str, text: str | None = None) -> None:
        return

    async def _take(self) -> None:
        self.reached.set()
        await self.answers.wait()
        if self.refusals:
            raise self.refusals.pop()


class Plain:
    def outcome(self, kind: str, generation: Generation, facts: dict[str, object]) -> Say:
        return Say(kind)

    def card(self, generation: Generation, facts: dict[str, object]) -> Say:
        return Say("card")

    def apology(self, language: str, error_id: str) -> Say:
        return Say("sorry")


class Host:
    """The file host. `trouble` is raised by every fetch while it is set."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trouble: Exception | None = None

    async def probe(self, url: str) -> Fetched:
        raise NotImplementedError

    async def read_through(self, url: str, *, max_bytes: int) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def fetch(self, url: str, *, max_bytes: int) -> AsyncIterator[Fetched]:
        if self.trouble is not None:
            raise self.trouble
        yield Fetched(self._path, 10, "image/png", "image", 10, 10)


class Post:
    def __init__(self, rig: Rig, host: Host) -> None:
        self.rig, self.host, self.telegram = rig, host, Telegram()
        self.store = ShakyStore(rig.database)

    def courier(self, store: Store | None = None, owner: UUID | None = None) -> Courier:
        used = store or self.rig.database
        messenger: Messenger = self.telegram
        clock = self.rig.tools.clock
        sender = ResultSender(used, messenger, Plain(), self.host, clock)
        return Courier(used, messenger, sender, owner or self.rig.tools.owner, clock)

    def cards(self, store: Store | None = None) -> CardKeeper:
        tools = self.rig.tools
        used = store or self.rig.database
        return CardKeeper(used, self.telegram, Plain(), tools.owner, tools.clock, create_every_s=0.5, running=3)

    async def card_pauses_end(self) -> None:
        async with self.rig.database.engine.begin() as connection:
            await connection.execute(text("UPDATE cards SET next_at = now()"))

    async def a_paid_result(self) -> Generation:
        """A captured generation whose result waits to be sent."""
        await self.rig.grant(10)
        generation = await self.rig.order()
        return await self.rig.settles(generation.id)

    async def say(self, *lines: str) -> None:
        async with self.rig.database.transaction() as tx:
            await tx.outbox.add_all([Draft(CHAT, "say", {"text": line}) for line in lines], None)

    async def pauses_end(self, *, claims_too: bool = False) -> None:
        claims = ", claimed_at = claimed_at - interval '200 seconds'" if claims_too else ""
        async with self.rig.database.engine.begin() as connection:
            await connection.execute(text(f"UPDATE outbox SET next_at = now(){claims} WHERE sent_at IS NULL"))

    async def rows(self) -> list[tuple[bool, bool, bool]]:
        """(sent, buried, claimed) of every row in order."""
        async with self.rig.database.engine.connect() as connection:
            found = await connection.execute(
                text(
                    "SELECT sent_at IS NOT NULL, buried_at IS NOT NULL, claimed_by IS NOT NULL FROM outbox ORDER BY id"
                )
            )
            return [(row[0], row[1], row[2]) for row in found]

    def delivers(self) -> list[Deliver]:
        return [wakeup for wakeup in self.rig.queue.wakeups if isinstance(wakeup, Deliver)]


@pytest.fixture
def post(rig: Rig, tmp_path: Path) -> Post:
    path = tmp_path / "result.png"
    path.write_bytes(b"0123456789")
    return Post(rig, Host(path))


async def test_a_minute_without_the_file_host_does_not_cost_a_paid_result(post: Post) -> None:
    await post.a_paid_result()
    post.rig.queue.wakeups.clear()
    post.host.trouble = Transient("result: HTTP 503", retry_after_s=3.0)  # as KieResults says it
    for _ in range(MAX_TRIES):
        await post.courier().deliver(CHAT)
        await post.pauses_end()
    waited_s = sum(wakeup.delay_s for wakeup in post.delivers())
    (row,) = await post.rows()
    assert not row[1] or waited_s >= 60, (
        f"captured, given up after {waited_s} s, and the user heard {post.telegram.texts}"
    )


async def test_a_paid_result_whose_file_is_gone_is_told_as_a_link(post: Post) -> None:
    await post.a_paid_result()
    post.host.trouble = Permanent("result: HTTP 410", code="result_gone")
    await post.courier().deliver(CHAT)
    assert post.telegram.texts == ["result_link"], "the money was taken and nobody says a word"


async def test_a_paid_result_that_cannot_be_fetched_for_a_minute_is_told_as_a_link_and_the_chat_goes_on(
    post: Post,
) -> None:
    await post.a_paid_result()
    await post.say("what came after it")
    post.rig.queue.wakeups.clear()
    post.host.trouble = Transient("result: RemoteProtocolError", retry_after_s=3.0)
    while not post.telegram.texts:
        await post.courier().deliver(CHAT)
        await post.pauses_end()
    waited_s = sum(wakeup.delay_s for wakeup in post.delivers())
    assert 30 <= waited_s <= 120, "too soon to give the file up, or too long for a chat to stand still"
    assert post.telegram.texts == ["result_link", "what came after it"]


async def test_a_job_that_is_cut_off_while_sending_does_not_hold_the_chat_for_minutes(post: Post) -> None:
    """arq cancels a job after 120 seconds; an upload may take 180."""
    await post.say("one")
    post.telegram.answers.clear()
    sending = asyncio.create_task(post.courier().deliver(CHAT))
    await post.telegram.reached.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert [row[2] for row in await post.rows()] == [False], "claimed by a living owner: free after CLAIM_MAX_S"


async def test_a_message_that_always_outlasts_its_job_is_given_up_in_the_end(post: Post) -> None:
    await post.say("poison", "the next one")
    post.telegram.answers.clear()
    for _ in range(MAX_TRIES + 2):
        post.telegram.reached.clear()
        sending = asyncio.create_task(post.courier().deliver(CHAT))
        reached = asyncio.create_task(post.telegram.reached.wait())
        await asyncio.wait({sending, reached}, return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        reached.cancel()
        await asyncio.gather(sending, reached, return_exceptions=True)
        await post.pauses_end(claims_too=True)
    assert (await post.rows())[0][1], "tried for ever, and everything behind it waits for ever"


async def test_a_blink_of_postgres_after_a_send_does_not_silence_the_chat(post: Post) -> None:
    await post.say("one", "two")
    post.store.refuse = {2}  # 1: claim, 2: mark it sent
    await asyncio.gather(post.courier(post.store).deliver(CHAT), return_exceptions=True)
    await asyncio.sleep(0.5)
    await post.courier().deliver(CHAT)  # the job again, Postgres is back
    assert "two" in post.telegram.texts, "the first row stays claimed by this living replica for 180 s"


async def test_a_claim_whose_commit_was_not_answered_does_not_silence_the_chat(post: Post) -> None:
    await post.say("one", "two")
    post.store.lose = {1}
    with pytest.raises(Transient):
        await post.courier(post.store).deliver(CHAT)
    await post.courier().deliver(CHAT)
    assert post.telegram.texts == ["one", "two"]


async def test_a_card_whose_claim_was_not_answered_or_cut_off_is_shown_a_moment_later(post: Post) -> None:
    await post.rig.grant(10)
    generation = await post.rig.order()
    post.store.lose = {1}
    with pytest.raises(Transient):
        await post.cards(post.store).refresh(generation.id)
    await post.card_pauses_end()
    post.telegram.answers.clear()
    showing = asyncio.create_task(post.cards().refresh(generation.id))
    await post.telegram.reached.wait()
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
    await post.card_pauses_end()
    post.telegram.answers.set()
    await post.cards().refresh(generation.id)
    assert post.telegram.texts == ["card"]


async def test_a_blink_of_postgres_after_a_result_was_sent_does_not_send_it_again(post: Post) -> None:
    await post.a_paid_result()
    post.store.refuse = {3}  # 1: claim, 2: read, 3: keep the file ids of what has just been sent
    await asyncio.gather(post.courier(post.store).deliver(CHAT), return_exceptions=True)
    await post.pauses_end(claims_too=True)
    await post.courier().deliver(CHAT)
    assert post.telegram.files == 1


async def test_being_asked_to_wait_twice_makes_two_different_wake_ups(post: Post) -> None:
    """The queue leaves an id alone while its job runs: the second wake-up would be swallowed by the first."""
    await post.say("one")
    post.telegram.refusals = [RateLimited("429", retry_after_s=1.0), RateLimited("429", retry_after_s=1.0)]
    for _ in range(2):
        await post.courier().deliver(CHAT)
        await post.pauses_end()
    first, second = post.delivers()[-2:]
    assert job_of(first).id != job_of(second).id


async def test_a_chat_that_must_wait_does_not_hide_others_from_the_sweeper(post: Post) -> None:
    """One chat's head is paused; two hundred messages behind it look as if their wake-up was lost."""
    await post.say(*(str(number) for number in range(201)))
    async with post.rig.database.engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET next_at = now() - interval '1 minute'"))
        await connection.execute(
            text("UPDATE outbox SET next_at = now() + interval '1 hour' WHERE id = (SELECT min(id) FROM outbox)")
        )
        await connection.execute(
            text("""
                INSERT INTO outbox (chat_id, kind, payload, next_at)
                VALUES (71, 'say', '{"text": "hello"}', now() - interval '30 seconds')
            """)
        )
    async with post.rig.database.transaction() as tx:
        found = await tx.sweeps.waiting_chats(grace_s=2.0)
    assert [wakeup.chat_id for wakeup in found] == [71]


async def test_a_token_that_is_refused_for_hours_buries_nothing(post: Post) -> None:
    await post.say("one")
    for _ in range(MAX_TRIES + 2):
        post.telegram.refusals = [stopped("sendMessage")]  # as the messenger tells a 401
        await post.courier().deliver(CHAT)
        await post.pauses_end()
    assert await post.rows() == [(False, False, False)]
    await post.courier().deliver(CHAT)
    assert post.telegram.texts == ["one"], "an operator has put in the new token"


async def test_a_buried_outcome_takes_its_status_card_away(post: Post) -> None:
    generation = await post.a_paid_result()
    post.host.trouble = Permanent("result: HTTP 451", code="result_gone")
    await post.courier().deliver(CHAT)
    async with post.rig.database.engine.connect() as connection:
        is_gone = await connection.scalar(
            text("SELECT is_gone FROM cards WHERE generation_id = :id"), {"id": generation.id}
        )
    assert is_gone, "the card says it is being made, for ever"
