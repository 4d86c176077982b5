"""A router and a network namespace per replica; the router's rules drop packets. network.py tells the plan."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from tests.chaos.network import BOTH, KINDS, Direction, Place, Weather

_RIG = "10.79.0.2"  # first on its link, so that the rig's own looks come from here and no rule concerns them
_ROUTER = "10.79.0.1"
_TARGETS = "10.79.0.8/29"
_TARGET = "10.79.0.{}"
_FIRST_TARGET = 8
_LINK = "kiebot0"


class Refused(OSError):
    """The kernel, or one of its tools, said no. The text is theirs."""


class Namespaces:
    """Laid out in this process's network, which must be an empty one of its own. Blocking, a tenth of a second each."""

    def __init__(self) -> None:
        self._router = _make()
        self._places: list[int] = []
        addresses = (_RIG, *(self.address_of(kind) for kind in KINDS))
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", _LINK, "type", "veth", "peer", "name", "up0")
        _move("up0", self._router)
        for address in addresses:
            _run("ip", "address", "add", f"{address}/24", "dev", _LINK)
        _run("ip", "link", "set", _LINK, "up")
        _run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", within=self._router)
        for words in ("link set lo up", f"address add {_ROUTER}/24 dev up0", "link set up0 up"):
            _run("ip", *words.split(), within=self._router)

    def address_of(self, kind: str) -> str:
        return _TARGET.format(_FIRST_TARGET + KINDS.index(kind))

    def place(self) -> Place:
        """A namespace more, joined to the router."""
        own = _make()
        self._places.append(own)
        number = len(self._places)
        host, gate, link = f"10.79.{number}.2", f"10.79.{number}.1", f"down{number}"
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", within=self._router)
        _move("eth0", own, within=self._router)
        for words in (f"address add {gate}/24 dev {link}", f"link set {link} up"):
            _run("ip", *words.split(), within=self._router)
        for words in (
            "link set lo up",
            f"address add {host}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {gate}",
        ):
            _run("ip", *words.split(), within=own)
        _run("ip", "route", "add", f"10.79.{number}.0/24", "via", _ROUTER)
        enter = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{own}", "--")
        return Place(host, enter, RoutedLine(host, (self._router, link), (own, "eth0")))

    def close(self) -> None:
        _run("ip", "link", "delete", _LINK)
        for descriptor in (self._router, *self._places):
            os.close(descriptor)
        self._places.clear()


Queue = tuple[int, str]
"""A namespace's descriptor and an interface in it: what leaves there waits in its queue."""


class RoutedLine:
    """One replica's way through the router."""

    def __init__(self, host: str, down: Queue, up: Queue) -> None:
        self._host, self._queues, self._router = host, (down, up), down[0]
        self._rules: set[str] = set()
        self._slow: list[Queue] = []

    def drops(self, address: str, *directions: Direction) -> None:
        """Without a word to either side: connections stay, and what was sent is sent again until it passes."""
        self._change("add", set(self._between(address, *directions)) - self._rules)

    def passes(self, address: str) -> None:
        self._change("delete", set(self._between(address)) & self._rules)

    def has(self, weather: Weather) -> str:
        discipline = _discipline(weather)
        try:
            for within, interface in self._queues:
                _run("tc", "qdisc", "add", "dev", interface, "root", *discipline, within=within)
                self._slow.append((within, interface))
        except Refused:  # the kernel was built without it
            self.clears_up()
            return ""
        return discipline[0]

    def clears_up(self) -> None:
        while self._slow:
            within, interface = self._slow.pop()
            _run("tc", "qdisc", "delete", "dev", interface, "root", within=within)

    def _between(self, address: str, *directions: Direction) -> list[str]:
        far = address or _TARGETS
        rules = {"up": f"from {self._host} to {far} blackhole", "down": f"from {far} to {self._host} blackhole"}
        return [rules[direction] for direction in directions or BOTH]

    def _change(self, how: str, rules: set[str]) -> None:
        """All in one call: neither direction should be cut noticeably before the other."""
        if rules:
            batch = "".join(f"rule {how} {rule}\n" for rule in sorted(rules))
            _run("ip", "-batch", "-", within=self._router, said=batch)
            self._rules ^= rules


def _discipline(weather: Weather) -> Sequence[str]:
    if weather.bytes_per_s:
        return ("tbf", "rate", f"{weather.bytes_per_s * 8:.0f}bit", "burst", "16kb", "latency", "400ms")
    return ("netem", "delay", f"{weather.delay_s * 1000:.0f}ms", "loss", f"{weather.loss * 100:g}%")


def _make() -> int:
    """A descriptor that keeps an empty network alive. Its first process ends here."""
    command = ["unshare", "--net", "--", "sh", "-c", "echo made; read _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        assert first.stdin and first.stdout and first.stderr
        try:
            if not first.stdout.readline():
                raise Refused(first.stderr.read().decode().strip())
            return os.open(f"/proc/{first.pid}/ns/net", os.O_RDONLY)
        finally:
            first.stdin.close()


def _move(interface: str, into: int, *, within: int | None = None) -> None:
    """`ip` looks for a namespace by the path of an open file of a process: ours."""
    _run("ip", "link", "set", interface, "netns", f"/proc/{os.getpid()}/fd/{into}", within=within)


def _run(*command: str, within: int | None = None, said: str = "") -> None:
    """Raises: Refused."""
    there = () if within is None else ("nsenter", f"--net=/proc/{os.getpid()}/fd/{within}", "--")
    done = subprocess.run([*there, *command], input=said, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
