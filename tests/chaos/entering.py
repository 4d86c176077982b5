"""Which network a command uses, found by trying, and how it gets into an empty one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.chaos.namespaces import Namespaces
from tests.chaos.network import Loopback, Network

_OUTSIDE = "KIEBOT_CHAOS_OUTSIDE"  # the network this command was started in: who is in another one has entered
WISHES = ("doors", "namespaces")
_PROGRAMS = ("unshare", "nsenter", "ip", "tc")
_TRIAL = """
ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward &&
unshare --net true && nsenter --net=/proc/self/ns/net true &&
ip link add try0 type veth peer name try1 && ip rule add from 10.79.1.2 to 10.79.0.12 blackhole
"""


@dataclass(frozen=True)
class Choice:
    """`make` opens the network that is used, `told` names it; `refused` says why a wish for namespaces is not met."""

    make: Callable[[], Network]
    told: str
    refused: str = ""


def choose(wish: str | None) -> Choice:
    """Doors, namespaces, or namespaces where permitted (None). May not return: see `enter`."""
    if wish == "doors":
        return Choice(Loopback, "doors")
    if not has_entered():
        if why := why_not():
            return Choice(Loopback, f"doors, because namespaces are not permitted: {why}", why if wish else "")
        enter()
    return Choice(Namespaces, "namespaces")


def why_not() -> str:
    """Why namespaces cannot be had here, found by trying; nothing when they can."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has none"
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"no {', '.join(missing)} here"
    tried = subprocess.run([*apart(), "sh", "-c", _TRIAL], capture_output=True, text=True, check=False)
    return (tried.stderr.strip().splitlines() or [f"status {tried.returncode}"])[-1] if tried.returncode else ""


def apart() -> list[str]:
    """What runs a command in an empty network. Without root it needs a user namespace; the user stays who it is,
    because PostgreSQL refuses to run as root."""
    own_user = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")
    return ["unshare", *own_user, "--net", "--"]


def has_entered() -> bool:
    return os.environ.get(_OUTSIDE, _here()) != _here()


def enter() -> NoReturn:
    """This command once more, from its beginning, in an empty network; same process, same arguments."""
    sys.stdout.flush()
    command = [*apart(), sys.executable, *sys.orig_argv[1:]]
    os.execvpe(command[0], command, {**os.environ, _OUTSIDE: _here()})


def _here() -> str:
    own = Path("/proc/self/ns/net")
    return str(own.readlink()) if own.is_symlink() else ""
