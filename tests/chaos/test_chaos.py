"""Four quick rows of the fault matrix, and the rig's own parts."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kiebot.demo.mutants import MUTANTS
from tests.chaos.door import Door
from tests.chaos.entering import why_not
from tests.chaos.mutants import FOUND_BY
from tests.chaos.rows import ROWS
from tests.chaos.running import runs

QUICK = "2,7,13,51"  # 51 cuts somebody off, and gives a busy machine seconds


@pytest.mark.slow
async def test_a_short_selection_of_the_fault_matrix_is_met() -> None:
    status, said = await runs("tests.chaos", "--rows", QUICK, "--ttl", "2", "--replicas", "2")
    assert status == 0, said
    assert "4 rows: 4 met" in said, said
    assert f"network: {'doors, because' if why_not() else 'namespaces'}" in said


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
