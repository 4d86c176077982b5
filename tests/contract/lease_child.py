"""A replica in a process of its own, so that it can be killed, frozen and woken. Tells on stderr what happens to it.

python lease_child.py candidate URL PREFIX REPLICA    bids until SIGTERM; tells "leads" at the beginning of each term
python lease_child.py holder URL PREFIX TTL_S         takes the lease once, then tells each renewal's answer
"""

from __future__ import annotations

import asyncio
import signal
import sys

from kiebot.clock import SystemClock
from kiebot.ids import new_token
from kiebot.lease.candidate import Candidate
from kiebot.lease.open import open_lease_store
from kiebot.lease.protocol import LeaseStore, StoreUnreachable
from kiebot.lease.term import Term, Timing


def tell(what: str) -> None:
    sys.stderr.write(f"{what}\n")


async def bid(store: LeaseStore, replica: str) -> None:
    async def work(term: Term) -> None:
        term.check()
        tell("leads")
        await asyncio.sleep(3600)

    candidate = Candidate(store, name="poller", replica=replica, clock=SystemClock(), timing=Timing(), work=work)
    running = asyncio.create_task(candidate.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    tell("bids")
    await asyncio.wait({running})


async def hold(store: LeaseStore, ttl_s: float) -> None:
    lease = await store.acquire("poller", "child", token=new_token(), ttl_s=ttl_s)
    assert lease is not None
    tell(lease.token)
    while True:
        await asyncio.sleep(0.1)
        try:
            tell("ours" if await store.renew(lease, ttl_s=ttl_s) else "not yours")
        except StoreUnreachable as error:
            tell(f"unreachable: {error}")


async def main() -> None:
    role, url, prefix, last = sys.argv[1:]
    store = open_lease_store(url, clock=SystemClock(), prefix=prefix)
    await (bid(store, last) if role == "candidate" else hold(store, float(last)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
