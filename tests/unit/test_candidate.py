"""The loop every replica runs, on a manual clock: who leads, when they stop, and what is done about a failing store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from kiebot.clock import ManualClock
from kiebot.errors import Fenced
from kiebot.lease.candidate import Candidate
from kiebot.lease.chronicle import Transition
from kiebot.lease.memory import MemoryLeaseStore
from kiebot.lease.protocol import Lease, StoreUnreachable
from kiebot.lease.term import StepDown, Term, TermOver, Timing

NAME = "poller"
TIMING = Timing()


class Wire(MemoryLeaseStore):
    """One replica's way to a shared store, which a test can cut, hang or rob of one answer."""

    def __init__(self, shared: MemoryLeaseStore, clock: ManualClock) -> None:
        super().__init__(clock)
        self._slots = shared._slots
        self._connected = shared._connected
        self._nudges = shared._nudges
        self.tells(shared._tells_connections)
        self.is_cut = False
        self.is_hung = False
        self.loses_next_answer = False
        self.answers_after_s = 0.0
        self.bids: list[str] = []

    def tells(self, connections: bool) -> None:
        self._tells_connections = connections

    async def acquire(self, name: str, replica: str, *, token: str, ttl_s: float) -> Lease | None:
        self.bids.append(token)
        await self._reach()
        lease = await super().acquire(name, replica, token=token, ttl_s=ttl_s)
        await self._answer()
        return lease

    async def renew(self, lease: Lease, *, ttl_s: float) -> Lease | None:
        await self._reach()
        return await super().renew(lease, ttl_s=ttl_s)

    async def release(self, lease: Lease) -> None:
        await self._reach()
        await super().release(lease)

    async def holder_is_connected(self, name: str, token: str) -> bool | None:
        await self._reach()
        return await super().holder_is_connected(name, token)

    async def _reach(self) -> None:
        if self.is_hung:
            await asyncio.Event().wait()  # breaks the port's promise on purpose
        if self.is_cut:
            await self._clock.sleep(TIMING.call_timeout_s)
            raise StoreUnreachable("cut")

    async def _answer(self) -> None:
        if self.answers_after_s:
            await self._clock.sleep(self.answers_after_s)
        if self.loses_next_answer:
            self.loses_next_answer = False
            raise StoreUnreachable("answer lost")


class Node:
    """A replica: its candidate, its wire, and a work that notes when it runs."""

    def __init__(self, replica: str, store: MemoryLeaseStore, clock: ManualClock) -> None:
        self.clock = clock
        self.wire = Wire(store, clock)
        self.transitions: list[Transition] = []
        self.starts: list[str] = []  # tokens the work was started with
        self.is_working = False
        self.raises: list[BaseException] = []
        self.ignores_cancel = False
        self.candidate = Candidate(
            self.wire,
            name=NAME,
            replica=replica,
            clock=clock,
            timing=TIMING,
            work=self.work,
            on_transition=self.transitions.append,
        )
        self.task = asyncio.create_task(self.candidate.run())

    @property
    def kinds(self) -> list[str]:
        return [transition.kind for transition in self.transitions]

    async def work(self, term: Term) -> None:
        term.check()
        self.starts.append(term.token)
        if self.raises:
            raise self.raises.pop(0)
        self.is_working = True
        try:
            await self.clock.sleep(1e6)
        except asyncio.CancelledError:
            if not self.ignores_cancel:
                raise
            await self.clock.sleep(1e6)
        finally:
            self.is_working = False

    async def leave(self) -> None:
        """SIGTERM."""
        self.task.cancel()
        await self.clock.advance(0.05)

    async def die(self) -> None:
        """SIGKILL: nothing more is sent, and the kernel closes the connections."""
        self.wire.is_hung = True
        if self.candidate.term is not None:
            self.wire.disconnect(self.candidate.term.token)
        self.task.cancel()
        await self.clock.advance(0)


class Cluster:
    def __init__(self, clock: ManualClock, *, tells_connections: bool = True) -> None:
        self.clock = clock
        self.store = MemoryLeaseStore(clock, tells_connections=tells_connections)
        self.nodes: list[Node] = []

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            self.nodes.append(Node(f"r{len(self.nodes)}", self.store, self.clock))

    async def leader_after(self, seconds: float) -> Node:
        await self.clock.advance(seconds)
        (leader,) = [node for node in self.nodes if node.is_working]
        assert leader.candidate.is_holder
        return leader

    def standbys(self) -> list[Node]:
        return [node for node in self.nodes if not node.candidate.is_holder]

    async def takeover_after(self, old: Node, within_s: float) -> float:
        """How long until a node other than `old` works."""
        began = self.clock.monotonic()
        while not any(node.is_working for node in self.nodes if node is not old):
            assert self.clock.monotonic() - began <= within_s
            await self.clock.advance(0.02)
        return self.clock.monotonic() - began


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def cluster(clock: ManualClock) -> AsyncIterator[Cluster]:
    cluster = Cluster(clock)
    yield cluster
    for node in cluster.nodes:
        node.wire.is_hung = node.wire.is_cut = node.ignores_cancel = False
        node.task.cancel()
    await clock.advance(5)
    for node in cluster.nodes:
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(node.task, 1)


async def test_of_three_replicas_one_works_and_goes_on_working(cluster: Cluster) -> None:
    cluster.start(3)
    leader = await cluster.leader_after(1)
    assert await cluster.leader_after(60) is leader
    assert leader.kinds == ["acquired"]
    standing = leader.candidate.describe()
    assert standing.is_holder and standing.store_reachable and standing.counts.renewals >= 25
    assert 0 < standing.trusted_s <= TIMING.trust_s
    assert not cluster.standbys()[0].candidate.describe().is_holder


async def test_a_leader_that_leaves_hands_over_within_milliseconds(cluster: Cluster) -> None:
    cluster.start(3)
    leader = await cluster.leader_after(1)
    leader.task.cancel()
    assert await cluster.takeover_after(leader, within_s=0.1) <= 0.03
    assert leader.kinds == ["acquired", "stopped"]
    assert not leader.is_working


async def test_work_has_stopped_before_the_lease_is_free(cluster: Cluster) -> None:
    cluster.start()
    leader = await cluster.leader_after(1)
    seen: list[bool] = []
    release = leader.wire.release

    async def watched(lease: Lease) -> None:
        seen.append(leader.is_working)
        await release(lease)

    leader.wire.release = watched  # type: ignore[method-assign]  # a look at the order of two real acts
    await leader.leave()
    assert seen == [False]
    assert await cluster.store.holder(NAME) is None


async def test_a_killed_leader_is_replaced_within_a_second(cluster: Cluster) -> None:
    cluster.start(3)
    leader = await cluster.leader_after(3)
    await leader.die()
    assert await cluster.takeover_after(leader, within_s=1) <= 0.6
    (successor,) = [node for node in cluster.nodes if node.is_working]
    assert successor.kinds == ["seized"]
    assert successor.candidate.describe().counts.seized == {"disconnected": 1}


async def test_without_a_connection_to_watch_a_killed_leader_is_replaced_at_the_expiry(clock: ManualClock) -> None:
    cluster = Cluster(clock, tells_connections=False)
    cluster.start(2)
    leader = await cluster.leader_after(3)
    await leader.die()
    assert await cluster.takeover_after(leader, within_s=11) <= TIMING.ttl_s + 0.6
    for node in cluster.nodes:
        node.task.cancel()
        node.wire.is_hung = False
    await clock.advance(5)


async def test_a_leader_cut_off_stops_before_anybody_else_starts(cluster: Cluster) -> None:
    cluster.start(2)
    leader = await cluster.leader_after(10)
    leader.wire.is_cut = True
    (standby,) = cluster.standbys()
    for _ in range(200):
        await cluster.clock.advance(0.1)
        assert not (leader.is_working and standby.is_working)
    assert standby.is_working
    assert leader.kinds[-1] == "deadline"


async def test_the_watchdog_stops_the_work_although_the_renewal_hangs(cluster: Cluster) -> None:
    cluster.start()
    leader = await cluster.leader_after(1)
    leader.wire.is_hung = True
    await cluster.clock.advance(TIMING.trust_s + 0.01)
    assert not leader.is_working
    assert not leader.candidate.is_holder


async def test_a_short_silence_of_the_store_costs_no_term(cluster: Cluster) -> None:
    cluster.start(2)
    leader = await cluster.leader_after(10)
    for node in cluster.nodes:
        node.wire.is_cut = True
    await cluster.clock.advance(TIMING.stall_s - 0.3)
    for node in cluster.nodes:
        node.wire.is_cut = False
    assert await cluster.leader_after(20) is leader
    assert leader.kinds == ["acquired"]
    assert leader.candidate.describe().counts.store_errors > 0


async def test_nobody_works_while_the_store_is_out_of_reach(cluster: Cluster) -> None:
    cluster.start(3)
    for node in cluster.nodes:
        node.wire.is_cut = True
    await cluster.clock.advance(120)
    assert not any(node.starts for node in cluster.nodes)
    assert not any(node.candidate.describe().store_reachable for node in cluster.nodes)
    for node in cluster.nodes:
        node.wire.is_cut = False
    await cluster.leader_after(4)


async def test_a_bid_whose_answer_was_lost_is_repeated_with_the_same_token(cluster: Cluster) -> None:
    cluster.start()
    node = cluster.nodes[0]
    node.wire.loses_next_answer = True
    await cluster.leader_after(1)
    assert len(node.wire.bids) == 2
    assert len(set(node.wire.bids)) == 1


async def test_a_grant_answered_too_late_is_never_acted_upon(cluster: Cluster) -> None:
    cluster.start()
    node = cluster.nodes[0]
    node.wire.answers_after_s = TIMING.trust_s + 0.5
    await cluster.clock.advance(TIMING.trust_s + 0.6)
    assert node.starts == []
    node.wire.answers_after_s = 0.0
    await cluster.leader_after(15)


async def test_a_replica_stopped_while_its_bid_is_on_the_way_gives_it_back(cluster: Cluster) -> None:
    cluster.start()
    node = cluster.nodes[0]
    node.wire.answers_after_s = 1.0
    await cluster.clock.advance(0.5)
    assert await cluster.store.holder(NAME) is not None
    await node.leave()
    assert node.task.done()
    assert await cluster.store.holder(NAME) is None


async def test_an_answer_not_yours_ends_the_term_at_once(cluster: Cluster) -> None:
    cluster.start()
    leader = await cluster.leader_after(1)
    cluster.store.forget(NAME)
    stranger = await cluster.store.acquire(NAME, "stranger", token="t", ttl_s=30)
    await cluster.clock.advance(TIMING.renew_s * 1.1 + 0.1)
    assert not leader.is_working
    assert leader.kinds == ["acquired", "taken"]
    assert stranger is not None
    holder = await cluster.store.holder(NAME)
    assert holder is not None and holder.replica == "stranger"


async def test_an_emptied_store_is_led_by_one_again_within_a_second_and_never_by_two(cluster: Cluster) -> None:
    cluster.start(3)
    await cluster.leader_after(1)
    cluster.store.forget(NAME)
    for _ in range(50):
        await cluster.clock.advance(0.02)
        assert sum(node.is_working for node in cluster.nodes) <= 1
    await cluster.leader_after(0)


async def test_a_store_emptied_after_the_leader_died_does_not_make_its_heirs_wait(cluster: Cluster) -> None:
    cluster.start(3)
    old = await cluster.leader_after(1)
    await old.die()
    cluster.store.forget(NAME)
    assert await cluster.takeover_after(old, within_s=1.0) < 0.5


async def test_a_leader_deaf_to_nudges_is_waited_for_no_longer_than_its_renewal_may_take(cluster: Cluster) -> None:
    cluster.start(3)
    old = await cluster.leader_after(1)
    old.wire.is_hung = True
    cluster.store.forget(NAME)
    assert await cluster.takeover_after(old, within_s=1.5 * TIMING.renew_s + 0.5) > TIMING.renew_s


async def test_a_leader_that_cannot_do_its_work_lets_another_lead_and_rests(cluster: Cluster) -> None:
    cluster.start()
    first = cluster.nodes[0]
    first.raises.append(StepDown("postgres out of reach"))
    await cluster.clock.advance(0)
    cluster.start()
    assert await cluster.leader_after(0.5) is cluster.nodes[1]
    assert first.kinds == ["acquired", "yielded"]
    assert first.transitions[-1].detail == "postgres out of reach"
    assert await cluster.leader_after(20) is cluster.nodes[1]


async def test_a_lone_leader_that_yielded_leads_again_after_its_rest(cluster: Cluster) -> None:
    cluster.start()
    node = await cluster.leader_after(1)
    node.candidate.yield_lease("asked to")
    await cluster.clock.advance(TIMING.rest_s - 0.1)
    assert not node.is_working
    assert await cluster.leader_after(TIMING.rest_s) is node
    assert len(set(node.starts)) == 2  # a token names one term


async def test_yielding_without_a_term_does_nothing(cluster: Cluster) -> None:
    cluster.start(2)
    leader = await cluster.leader_after(1)
    cluster.standbys()[0].candidate.yield_lease("not mine to give")
    assert await cluster.leader_after(5) is leader


async def test_a_fenced_leader_whose_lease_still_stands_starts_its_work_anew(cluster: Cluster) -> None:
    cluster.start()
    node = cluster.nodes[0]
    node.raises.append(Fenced("another term"))
    await cluster.leader_after(1)
    assert len(node.starts) == 2 and len(set(node.starts)) == 1
    assert node.kinds == ["acquired"]


async def test_a_fenced_leader_whose_lease_is_gone_steps_down(cluster: Cluster) -> None:
    cluster.start()
    node = cluster.nodes[0]
    node.raises.append(Fenced("another term"))
    await cluster.clock.advance(0)
    cluster.store.forget(NAME)
    await cluster.store.acquire(NAME, "stranger", token="t", ttl_s=60)
    await cluster.clock.advance(1)
    assert node.kinds == ["acquired", "taken"]
    assert len(node.starts) == 1


async def test_a_fenced_leader_that_cannot_ask_the_store_waits_only_until_its_deadline(cluster: Cluster) -> None:
    cluster.start()
    node = cluster.nodes[0]
    node.raises.append(Fenced("another term"))
    await cluster.clock.advance(0)
    node.wire.is_cut = True
    await cluster.clock.advance(TIMING.trust_s + 0.3)
    assert node.kinds == ["acquired", "deadline"]
    assert len(node.starts) == 1


@pytest.mark.parametrize("error", [ValueError("a bug"), TermOver("said too early"), asyncio.CancelledError()])
async def test_a_lease_is_never_kept_without_its_work(cluster: Cluster, error: BaseException) -> None:
    cluster.start()
    node = cluster.nodes[0]
    node.raises.append(error)
    await cluster.clock.advance(0.05)
    assert node.candidate.term is None
    assert await cluster.leader_after(8) is node


async def test_work_that_does_not_stop_is_left_behind_and_its_term_stays_over(cluster: Cluster) -> None:
    cluster.start(2)
    leader = await cluster.leader_after(1)
    leader.ignores_cancel = True
    term = leader.candidate.term
    assert term is not None
    leader.candidate.yield_lease("stuck")
    await cluster.clock.advance(TIMING.stop_s + 0.2)
    assert leader.is_working
    (standby,) = [node for node in cluster.nodes if node is not leader]
    assert standby.is_working
    with pytest.raises(TermOver):
        term.check()
    assert not await term.confirm()
    holder = await cluster.store.holder(NAME)
    assert holder is not None and holder.token == standby.starts[-1]


async def test_a_leader_asked_to_confirm_makes_a_round_trip(cluster: Cluster) -> None:
    cluster.start()
    leader = await cluster.leader_after(1)
    term = leader.candidate.term
    assert term is not None
    before = term.remaining()
    assert await term.confirm()
    assert term.remaining() > before
    cluster.store.forget(NAME)
    assert not await term.confirm()
    with pytest.raises(TermOver):
        term.check()


async def test_a_change_of_hands_is_told_once_with_who_held_it_and_for_how_long_nobody_did(clock: ManualClock) -> None:
    store = MemoryLeaseStore(clock)
    first = Node("r1", store, clock)
    await clock.advance(1)
    second = Node("r2", store, clock)
    await clock.advance(1)
    await first.leave()
    await clock.advance(1)
    (change,) = second.transitions
    assert (change.kind, change.previous) == ("acquired", "r1")
    assert change.leaderless_s is not None
    assert change.leaderless_s < 1
    await second.leave()


@pytest.mark.parametrize("epoch", [7, None])
async def test_the_end_of_a_term_is_one_line_with_the_epoch_that_its_work_was_given(
    clock: ManualClock, epoch: int | None
) -> None:
    node = Node("r1", MemoryLeaseStore(clock), clock)
    await clock.advance(1)
    assert node.candidate.term is not None
    node.candidate.term.epoch = epoch
    with capture_logs() as logged:
        await node.leave()
    (line,) = [entry for entry in logged if entry["event"].startswith("lease.")]
    assert (line["event"], line["reason"], line["epoch"]) == ("lease.released", "stopped", epoch)
    assert node.transitions[-1].epoch == epoch
