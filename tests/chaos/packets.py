"""`python -m tests.chaos.packets`: what a replica's line really drops, as JSON.

Somebody in a namespace counts aloud over one connection to an echo out here, while one direction after the other is cut
and joined again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field

from tests.chaos.entering import choose
from tests.chaos.network import BOTH, Network

_CLIENT = """
import socket, sys, time
line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
line.setblocking(False)
number, heard = 0, b""
while True:
    line.send(b"%d\\n" % number)
    number += 1
    time.sleep(0.02)
    try:
        heard = line.recv(65536)
    except BlockingIOError:
        continue
    sys.stdout.buffer.write(heard)
    sys.stdout.flush()
"""
_CUT_S = 0.6
_LATE_S = 20.0
_IN_FLIGHT_S = 0.1


@dataclass
class Echo:
    """`heard`: by the server; `answered`: what came back to the client."""

    connections: int = 0
    heard: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionResetError):  # the client is killed in the end
            while line := await reader.readline():
                self.heard.append(int(line))
                writer.write(line)
        writer.close()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        while (line := await reader.readline()).endswith(b"\n"):
            self.answered.append(int(line))


async def watch(network: Network) -> dict[str, object]:
    """By direction: how many numbers the server heard while it was cut, and how many of these were answered; whether
    all came in the end."""
    place, address, echo = network.place(), network.address_of("redis"), Echo()
    assert place.line is not None
    server = await asyncio.start_server(echo.serve, address, 0)
    where = address, str(server.sockets[0].getsockname()[1])
    command = (*place.enter, sys.executable, "-S", "-c", _CLIENT, *where)
    client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert client.stdout is not None
    listening = asyncio.create_task(echo.listen(client.stdout))
    told: dict[str, object] = {}
    try:
        await _reaches(echo.answered, 3)
        for direction in BOTH:
            place.line.drops(address, direction)
            await asyncio.sleep(_IN_FLIGHT_S)
            heard = len(echo.heard)
            await asyncio.sleep(_CUT_S)
            if direction == "down":
                await _reaches(echo.heard, heard + 5)
            told[direction] = [len(echo.heard) - heard, max(0, len(echo.answered) - heard)]
            place.line.passes(address)
            await _reaches(echo.answered, len(echo.heard) + 30)
    finally:
        client.kill()
        await client.wait()
        await listening
        server.close()
    in_order = echo.answered == list(range(len(echo.answered)))
    return told | {"connections": echo.connections, "all came in order": in_order}


async def _reaches(numbers: list[int], count: int) -> None:
    """Raises: TimeoutError."""
    async with asyncio.timeout(_LATE_S):
        while len(numbers) < count:
            await asyncio.sleep(0.01)


def main() -> None:
    choice = choose("namespaces")
    if choice.refused:
        sys.exit(choice.refused)
    network = choice.make()
    sys.stdout.write(json.dumps(asyncio.run(watch(network))))
    network.close()


if __name__ == "__main__":
    main()
