"""Which addresses a result may have, and which of them are connected to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

import httpcore
import pytest

from kiebot.errors import Permanent, Transient
from kiebot.kie.dial import CheckedDial, is_public
from kiebot.kie.hosts import DEFAULT_RESULT_HOSTS, ResultHosts, Target
from kiebot.kie.results import FetchDeadlines, KieResults

from .kie_raw_server import RawServer, closes

HOST = DEFAULT_RESULT_HOSTS[0]
TLS = ssl.create_default_context()  # building one costs more than most tests here


class Resolver:
    """Answers every name with the addresses of its script, one answer per call; the last one repeats."""

    def __init__(self, *script: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._script = list(script)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.8",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.5",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff0e::1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "localhost",
        "",
    ],
)
async def test_an_address_that_is_not_public_is_never_connected_to(address: str) -> None:
    assert not is_public(address)
    dial = CheckedDial(resolve=Resolver([address]))
    with pytest.raises(Permanent, match="no public address"):
        await dial.connect_tcp(HOST, 443, 1.0)


@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700::1111"])
def test_a_public_address_passes_also_inside_ipv6(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "spelling",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
    ],
)
async def test_odd_spellings_are_resolved_and_then_judged(spelling: str) -> None:
    """Even if an operator listed such a name, the real resolver's answer is what decides."""
    async with KieResults([spelling], ssl_context=TLS) as results:
        with pytest.raises(Permanent) as caught:
            await results.probe(f"https://{spelling}/a.png")
        assert caught.value.code == "foreign_host"


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/a.png",
        f"https://{HOST}:8443/a.png",
        f"https://user@{HOST}/a.png",
        f"https://{HOST}@evil.example/a.png",
        f"https://evil.example/{HOST}/a.png",
        f"https://evil.example#@{HOST}/",
        f"https://evil.example\\@{HOST}/",
        f"https://{HOST}.evil.example/a.png",
        f"https://{HOST}./a.png",
        f"https://evil{HOST}/a.png",
        f"https://{HOST}\n.evil.example/",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://2130706433/",
        "https://ⓣempfile.aiquickdraw.com/",
        "ftp://tempfile.aiquickdraw.com/a",
        "file:///etc/passwd",
        "//tempfile.aiquickdraw.com/a",
        "gopher:x",
        "https://",
        "",
        f"https://{HOST}/" + "a" * 5000,
        "https://[bad/",
        f"https://{HOST}:99999/",
    ],
)
def test_any_other_address_is_foreign(url: str) -> None:
    with pytest.raises(Permanent) as caught:
        ResultHosts().check(url)
    assert caught.value.code == "foreign_host"


def test_a_known_host_passes_on_its_usual_port_only() -> None:
    assert ResultHosts().check(f"https://{HOST.upper()}/a%20b.png?x=1#f") == Target(
        "https", HOST, 443, "/a%20b.png?x=1"
    )
    assert ResultHosts().check(f"https://{HOST}:443/").port == 443


def test_an_operators_endpoint_is_that_host_and_port_and_no_other() -> None:
    hosts = ResultHosts(["127.0.0.1:8801", " CDN.example ", "http://10.0.0.9:80/", "[::1]:9000", ""])
    assert hosts.check("http://127.0.0.1:8801/a").endpoint == ("127.0.0.1", 8801)
    assert hosts.check("https://127.0.0.1:8801/a").scheme == "https"
    assert hosts.check("https://cdn.example/a").host == "cdn.example"
    assert hosts.check("http://10.0.0.9/a").endpoint == ("10.0.0.9", 80)
    assert hosts.check("http://[::1]:9000/a").endpoint == ("::1", 9000)
    for url in ("http://127.0.0.1:8802/a", "http://127.0.0.1/a", "http://cdn.example/a", "https://10.0.0.9/a"):
        with pytest.raises(Permanent):
            hosts.check(url)


@pytest.mark.parametrize(
    "entry",
    ["a b", "*.example.com", "host/path", "user@host", "host:port", "host:", ":80", "[::1", "host:0", "host:65536"],
)
def test_an_entry_that_is_no_host_is_refused_at_start(entry: str) -> None:
    with pytest.raises(ValueError, match="not a result host"):
        ResultHosts([entry])


async def test_the_name_is_resolved_once_and_that_very_address_is_used() -> None:
    """A name that turns to a private address after its check gains nothing: it is not asked again."""
    async with RawServer(closes) as server:
        resolver = Resolver(["127.0.0.1"], ["10.0.0.1"])
        dial = CheckedDial({("name.example", server.port)}, resolve=resolver)
        stream = await dial.connect_tcp("name.example", server.port, 1.0)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        await stream.aclose()
    assert resolver.asked == ["name.example"]


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async with RawServer(closes) as server:
        dial = CheckedDial({("name.example", server.port)}, resolve=Resolver(["127.0.0.2", "127.0.0.1"]))
        stream = await dial.connect_tcp("name.example", server.port, 1.0)
        await stream.aclose()


async def test_a_name_that_does_not_resolve_or_takes_for_ever_is_transient() -> None:
    async def fails(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async def hangs(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    for resolver in (fails, hangs):
        async with KieResults(resolve=resolver, deadlines=FetchDeadlines(0.2, 0.2, 0.1), ssl_context=TLS) as results:
            with pytest.raises(Transient):
                await results.probe(f"https://{HOST}/a.png")


async def test_local_sockets_are_no_place_for_results() -> None:
    with pytest.raises(Permanent):
        await CheckedDial().connect_unix_socket("/run/x")


async def test_httpcores_own_errors_do_not_leak_out_of_the_dial_either() -> None:
    async with KieResults(["127.0.0.1:1"], deadlines=FetchDeadlines(0.4, 0.4, 0.2), ssl_context=TLS) as results:
        with pytest.raises(Transient) as caught:
            await results.probe("http://127.0.0.1:1/a")
    assert not isinstance(caught.value.__cause__, httpcore.NetworkError)
