"""Three quick rows of the fault matrix, as `./dev chaos --rows 2,7,13` runs them, and the rig's own parts."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from kiebot.demo.mutants import MUTANTS
from tests.chaos.door import Door
from tests.chaos.matrix import play_all
from tests.chaos.mutants import FOUND_BY
from tests.chaos.opening import open_rig
from tests.chaos.rows import ROWS

QUICK = (2, 7, 13)
COMMAND = (sys.executable, "-m", "tests.chaos.odd_replica")


@pytest.mark.slow
async def test_a_short_selection_of_the_fault_matrix_is_met() -> None:
    told: list[str] = []
    async with open_rig(ttl_s=2.0, replicas=2, durable=False, command=COMMAND) as rig:
        outcomes = await play_all(rig, [ROWS[number] for number in QUICK], lambda each: told.append(each.seen))
    assert [(each.row.number, each.verdict) for each in outcomes] == [(number, "met") for number in QUICK], told


def test_every_row_says_what_is_produced_and_what_is_expected() -> None:
    assert all(row.produce and row.expect for row in ROWS.values())
    assert set(ROWS) == {*range(1, 27), *range(33, 37), 44, *range(47, 52)}


def test_every_mutant_has_a_row_that_must_find_it() -> None:
    assert set(FOUND_BY) == set(MUTANTS)
    assert all(set(rows) <= set(ROWS) and rows for rows in FOUND_BY.values())


async def test_a_silent_door_keeps_connections_and_delivers_late() -> None:
    async with Echo() as echo, Door(("127.0.0.1", echo.port)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert await echo.says(reader, writer, b"one") == b"one"
        door.falls_silent()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(3), 0.1)
        assert door.held_back(b"two")
        await door.open()
        assert await reader.read(3) == b"two"
        writer.close()


async def test_a_door_can_lose_the_answer_to_a_chosen_word_only() -> None:
    async with Echo() as echo, Door(("127.0.0.1", echo.port)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        door.breaks_after(b"renew")
        assert await echo.says(reader, writer, b"ping") == b"ping"
        writer.write(b"renew")
        with pytest.raises(ConnectionResetError):
            assert await reader.read(5) == b"", "an answer came"
            raise ConnectionResetError
        assert b"renew" in echo.heard
        writer.close()


class Echo:
    """A server that repeats what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._repeat, sock=self._listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0.01)  # the loop closes its connections

    async def says(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: bytes) -> bytes:
        writer.write(words)
        return await reader.read(len(words))

    async def _repeat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while heard := await reader.read(100):
            self.heard += heard
            writer.write(heard)
        writer.close()
