"""Connecting to a checked address: the name is resolved once, and the connection goes to what was checked.

A check before a request is no check, for the name may resolve to another address a moment later; so it sits in the
network layer itself. Odd spellings of an address (decimal, octal, hexadecimal) need no parser here: the resolver turns
them into addresses, and addresses are what is judged.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable

import httpcore

from kiebot.errors import Permanent

Resolve = Callable[[str, int], Awaitable[Collection[str]]]
"""Host and port -> addresses as text. Raises OSError, when there are none."""

_MAX_ADDRESSES = 4  # tried in turn
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC = (
    ipaddress.IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    ipaddress.IPv6Network("2001:db8::/32"),  # documentation
    ipaddress.IPv6Network("3fff::/20"),  # documentation
    ipaddress.IPv6Network("2002::/16"),  # 6to4: any IPv4 address hides in it
)
_NOT_PUBLIC_V4 = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet. Text that is not a plain address is not.

    An IPv4 address inside an IPv6 one (mapped, NAT64) is judged itself. Of IPv6 only global unicast passes.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or (ipaddress.IPv4Address(parsed.packed[-4:]) if parsed in _NAT64 else None)
        if inner is None:
            return parsed in _UNICAST and not any(parsed in network for network in _NOT_PUBLIC)
        parsed = inner
    is_special = parsed.is_multicast or parsed.is_reserved or any(parsed in network for network in _NOT_PUBLIC_V4)
    return parsed.is_global and not is_special


async def resolve(host: str, port: int) -> list[str]:
    """The system resolver's stream addresses for a host, in its order. Raises: OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedDial(httpcore.AsyncNetworkBackend):
    """A network layer that connects to public addresses only, but for the exact endpoints an operator named.

    TLS is not its business: httpcore goes on to verify the certificate against the host's name.
    """

    def __init__(self, trusted: Collection[tuple[str, int]] = (), *, resolve: Resolve = resolve) -> None:
        self._trusted = frozenset(trusted)
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises: Permanent, when the host is nowhere public; httpcore.ConnectError, ConnectTimeout."""
        trouble: Exception = httpcore.ConnectError("no address")
        for address in await self._checked(host, port, timeout):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
        raise trouble

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises: Permanent, always: no result lives behind a socket file."""
        raise Permanent("a result cannot be behind a local socket", code="foreign_host")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _checked(self, host: str, port: int, timeout: float | None) -> list[str]:
        try:
            async with asyncio.timeout(timeout):
                addresses = list(await self._resolve(host, port))
        except TimeoutError:
            raise httpcore.ConnectTimeout("name resolution took too long") from None
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the host's name does not resolve") from None
        if (host, port) not in self._trusted:
            addresses = [address for address in addresses if is_public(address)]
            if not addresses:
                raise Permanent("the result's host has no public address", code="foreign_host")
        return addresses[:_MAX_ADDRESSES]
