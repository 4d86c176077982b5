"""Rows 47 to 50: what a host runs out of, two versions at once, and everything together."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from tests.chaos.matrix import Skipped, expect, row
from tests.chaos.rig import Rig

RATE = 20.0
ROOT = Path(__file__).parents[2]
OLDER_BY = 5  # commits
CONVERGES_S = 30.0
_RUN = (sys.executable, "-m", "kiebot", "run")


@row(47, "no file descriptors left")
async def is_exhausted(rig: Rig) -> str:
    """Produce: the holder may open no further file for two TTLs (prlimit).

    Expect: load is shed or the lease goes; nothing lost; it works again afterwards or was replaced.
    """
    victim = await rig.holder()
    rig.victims.add(victim)
    process = rig.cluster.members[victim].process
    assert process is not None
    holder = psutil.Process(process.pid)
    before = holder.rlimit(psutil.RLIMIT_NOFILE)
    holder.rlimit(psutil.RLIMIT_NOFILE, (holder.num_fds(), before[1]))
    try:
        async with rig.crowd.talking(RATE):
            for door in rig.doors[victim].all:
                door.resets()  # every connection would have to be opened anew
            await asyncio.sleep(2 * rig.ttl_s)
    finally:
        if holder.is_running():
            holder.rlimit(psutil.RLIMIT_NOFILE, before)
    await rig.led(5.0)
    lives = rig.cluster.members[victim].is_alive
    return f"{victim} {'lives' if lives else 'ended'}, {rig.living_poller()} leads"


@row(48, "log disk full, stdout blocked")
async def cannot_log(rig: Rig) -> str:
    """Produce: one more replica that prints to /dev/full; then one whose output is a full pipe nobody reads.

    Expect: each becomes ready, answers /healthz within a second under load, drains and exits 0.
    """
    told = []
    for name, output, end in (("full", os.open("/dev/full", os.O_WRONLY), None), ("blocked", *_full_pipe())):
        try:
            async with rig.another(name, _RUN, output, LOG_LEVEL="DEBUG") as process:
                async with rig.crowd.talking(RATE):
                    slowest_s = await _slowest_look(rig, name, 4.0)
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(20.0):
                    status = await process.wait()
        finally:
            os.close(output)
            if end is not None:
                os.close(end)
        expect(slowest_s <= 1.0, f"{name}: /healthz took {slowest_s:.2f} s")
        expect(status == 0, f"{name}: status {status}")
        told.append(f"{name}: {slowest_s * 1000:.0f} ms at most")
    return "; ".join(told)


@row(49, "two versions at once")
async def versions_mix(rig: Rig) -> str:
    """Produce: the code of some commits ago beside this one's, each leads once.

    Expect: one leader at a time, nothing lost: keys and rows are understood both ways.
    """
    older = await asyncio.to_thread(_older_code, rig.directory / "older")
    with (rig.directory / "older.log").open("ab") as output:
        running = rig.another("older", _RUN, output.fileno(), cwd=older, PYTHONPATH=str(older))
        async with running as process, rig.crowd.talking(RATE):
            leaders = [await _hand_over_to(rig, "older"), await _hand_over_from(rig, process)]
    return f"led by {' then '.join(leaders)}"


@row(50, "random combination", polls_may_meet=True)
async def nemesis(rig: Rig) -> str:
    """Produce: for the time given with --minutes, seeded: kills, freezes, partitions, resets, emptied stores.

    Expect: everything that is always true; one leader and an empty inbox within 30 s after healing.
    """
    struck: list[str] = []
    until = time.monotonic() + rig.nemesis_s
    async with rig.crowd.talking(RATE):
        while time.monotonic() < until:
            blow = rig.rng.choice(_BLOWS)
            struck.append(blow.__name__.strip("_"))
            await blow(rig)
            await asyncio.sleep(rig.rng.uniform(0.2, rig.ttl_s / 2))
            if rig.rng.random() < 0.25:
                await _mend(rig)
    began = time.monotonic()
    await _mend(rig)
    await rig.led(CONVERGES_S)
    await rig.settles(CONVERGES_S + len(rig.crowd.sent) / 15)  # answers leave at thirty a second
    rig.victims.update(rig.names)
    return f"{len(struck)} blows ({', '.join(sorted(set(struck)))}), converged {time.monotonic() - began:.1f} s after"


def _full_pipe() -> tuple[int, int]:
    """Both ends, writer first."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ, the least there is
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 512)
    except BlockingIOError:
        os.set_blocking(writer, True)
    return writer, reader


async def _slowest_look(rig: Rig, name: str, for_s: float) -> float:
    slowest_s, until = 0.0, time.monotonic() + for_s
    while time.monotonic() < until:
        slowest_s = max(slowest_s, await rig.health_s(name))
        await asyncio.sleep(0.1)
    return slowest_s


def _older_code(into: Path) -> Path:
    """The packages as they were when the schema was as it is, at most OLDER_BY commits ago. Raises: Skipped."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        raise Skipped("no history of the code here")

    def ask(*words: str) -> bytes:
        done = subprocess.run([git, *words], cwd=ROOT, capture_output=True, check=False)
        if done.returncode:
            raise Skipped(f"git {words[0]}: no such commit here")
        return done.stdout

    migrations = ("--", "kiebot/storage/migrations")
    commits = ask("log", "--format=%H", f"-{OLDER_BY}", "--", "kiebot").decode().split()
    alike = [commit for commit in commits[1:] if not ask("diff", "--name-only", commit, "HEAD", *migrations)]
    if not alike:
        raise Skipped("the last commit changed the schema: not this row's question")
    older = alike[-1]
    into.mkdir()
    with tarfile.open(fileobj=io.BytesIO(ask("archive", older, "kiebot", "workers"))) as archive:
        archive.extractall(into, filter="data")
    return into


async def _hand_over_to(rig: Rig, name: str) -> str:
    """Every other replica leaves, so that this one leads."""
    for other in rig.names:
        rig.send(other, signal.SIGTERM)
    for other in rig.names:
        await rig.cluster.wait(other, 20.0)
    await rig.until(lambda: rig.polling() == name, rig.ttl_s + 5.0, f"{name} leads")
    await asyncio.sleep(1.0)
    await rig.revive()
    return name


async def _hand_over_from(rig: Rig, process: asyncio.subprocess.Process) -> str:
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20.0):
        status = await process.wait()
    expect(status == 0, f"the older one ended with status {status}")
    return await rig.holder()


Blow = Callable[[Rig], Awaitable[object]]


async def _kill_one(rig: Rig) -> None:
    name = rig.rng.choice(rig.names)
    rig.victims.add(name)
    rig.send(name, signal.SIGKILL)
    await rig.cluster.wait(name, 5.0)


async def _restart_one(rig: Rig) -> None:
    name = rig.rng.choice(rig.names)
    rig.victims.add(name)
    rig.send(name, signal.SIGTERM)
    rig.leaving.add(name)


async def _freeze_one(rig: Rig) -> None:
    name = rig.rng.choice(rig.names)
    rig.victims.add(name)
    rig.send(name, signal.SIGSTOP)


async def _cut_one_off(rig: Rig) -> None:
    name = rig.rng.choice(rig.names)
    rig.victims.add(name)
    doors = rig.doors[name]
    rig.rng.choice(doors.all[:3]).falls_silent(*rig.rng.choice((("up",), ("down",), ("up", "down"))))


async def _reset_all(rig: Rig) -> None:
    for doors in rig.doors.values():
        for door in doors.all:
            door.resets()


async def _empty_redis(rig: Rig) -> None:
    if rig.stores.redis.is_running:
        await rig.redis.flushall()


async def _kill_redis(rig: Rig) -> None:
    if rig.stores.redis.is_running:
        await rig.stores.redis.kill()
        await rig.stores.redis.empty()


async def _restart_postgres(rig: Rig) -> None:
    await rig.stores.postgres.stop(rig.rng.choice((signal.SIGINT, signal.SIGQUIT)))
    await rig.stores.postgres.start()


async def _cut_a_poll(rig: Rig) -> None:
    rig.world.tg.faults.cuts_after("getUpdates", times=1)


_BLOWS: tuple[Blow, ...] = (
    _kill_one,
    _restart_one,
    _freeze_one,
    _cut_one_off,
    _reset_all,
    _empty_redis,
    _kill_redis,
    _restart_postgres,
    _cut_a_poll,
)


async def _mend(rig: Rig) -> None:
    """Heal; whoever was asked to leave and is still at it is waited for first."""
    for name in rig.names:
        rig.send(name, signal.SIGCONT)
    for doors in rig.doors.values():
        await doors.open()
    for name in rig.leaving:
        await rig.cluster.wait(name, 30.0)
    rig.leaving.clear()
    await rig.heal()
