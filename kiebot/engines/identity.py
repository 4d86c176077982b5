"""As whom the engines run. PostgreSQL refuses to run as root, and nobody's permissions may be opened for it.

Root's ways, in this order:

1. a private user namespace in which root's own processes carry an existing, ordinary user id: files stay root's;
2. the user `nobody`, when it can reach the programs and the data's directory as they are;
3. `nobody` with a copy of the programs, and data of its own, under a system directory everybody may pass.

An ordinary user without an entry in the user database (some container platforms) has the first way only. Ownership
changes only on directories this package made for the engines; modes of others never change.

In the first way a server-side program of the database's superuser would be root outside: the role kiebot is none.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kiebot.engines.binaries import Binaries, Program
from kiebot.engines.errors import EngineError
from kiebot.engines.layout import NAMESPACE, NOBODY, SYSTEM_DIR, WAYS, Layout

if sys.platform != "win32":
    import pwd

_CLONE_NEWUSER = 0x10000000
_COPIED_WITHOUT = shutil.ignore_patterns("include", "pgxs", "__pycache__")


@dataclass(frozen=True)
class Identity:
    """A user to become between fork and exec. `uid` and `gid` own the files, as seen from outside."""

    uid: int
    gid: int

    def enter(self) -> None:
        """Become this user, in a child process. Here: already so."""

    def can(self, allowed: Callable[[], bool]) -> bool:
        """What `allowed` answers when asked as this user. The caller has one thread only."""
        child = os.fork()
        if child == 0:
            try:
                self.enter()
                os._exit(0 if allowed() else 1)
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@dataclass(frozen=True)
class Namespaced(Identity):
    """The same user outside, another one inside a user namespace of its own."""

    inner_uid: int
    inner_gid: int

    def enter(self) -> None:
        uid, gid = os.geteuid(), os.getegid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "user namespaces are not allowed")
        Path("/proc/self/setgroups").write_text("deny")  # the kernel's condition for the next two
        Path("/proc/self/uid_map").write_text(f"{self.inner_uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{self.inner_gid} {gid} 1")


@dataclass(frozen=True)
class Dropped(Identity):
    """Another user; only root can become it."""

    def enter(self) -> None:
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)


@dataclass(frozen=True)
class Stage:
    """Who runs what, on which data: the outcome of `choose`."""

    identity: Identity
    binaries: Binaries
    data: Path


def choose(
    layout: Layout, binaries: Binaries, *, existing: Path | None, ways: Sequence[str] = WAYS, system: Path = SYSTEM_DIR
) -> Stage:
    """Find an identity under which the engines can run, and make its data directory.

    Args: existing, where data lies already; ways, what root may try; system, root's directory for way 3.
    Raises: EngineError, when there is none.
    """
    if os.geteuid() != 0 and _has_entry(os.geteuid()):
        stage = Stage(Identity(os.geteuid(), os.getegid()), binaries, existing or layout.data)
    else:
        found = (_WAYS[way](layout, binaries, existing, system) for way in ways)
        first = next((each for each in found if each), None)
        if first is None:
            raise EngineError(_no_way(existing))
        stage = first
    adopt(stage.data, stage.identity)
    return stage


def adopt(directory: Path, identity: Identity) -> None:
    """Make the directory, or hand over what is in it, to the identity's owner. Links are not followed."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid == identity.uid:
        return
    for parent, names, files in os.walk(directory, topdown=False):
        for name in (*names, *files):
            os.lchown(Path(parent) / name, identity.uid, identity.gid)
    os.lchown(directory, identity.uid, identity.gid)  # last: a walk cut short begins again


def _namespaced(layout: Layout, binaries: Binaries, existing: Path | None, _system: Path) -> Stage | None:
    if not sys.platform.startswith("linux"):
        return None
    user = _ordinary_user()
    identity = Namespaced(os.geteuid(), os.getegid(), user.pw_uid, user.pw_gid)
    data = existing or layout.data
    usable = identity.can(lambda: _reaches(data.parent) and _runs(binaries.postgres) and _runs(binaries.redis))
    return Stage(identity, binaries, data) if usable else None


def _dropped(layout: Layout, binaries: Binaries, existing: Path | None, system: Path) -> Stage | None:
    if os.geteuid() != 0:
        return None
    user = _ordinary_user()
    identity = Dropped(user.pw_uid, user.pw_gid)
    if existing is not None:
        if not identity.can(lambda: _reaches(existing.parent)):
            return None
        data = existing
    elif identity.can(lambda: _reaches(layout.dir)):
        data = layout.data
    else:
        data = _public_dir(system / "data") / layout.digest
    programs = [_reachable(program, identity, system) for program in (binaries.postgres, binaries.redis)]
    return Stage(identity, Binaries(*programs), data)


_WAYS = {NAMESPACE: _namespaced, NOBODY: _dropped}


def _reachable(program: Program, identity: Identity, system: Path) -> Program:
    """The program where it is, when the identity can run it there; else its one copy in the system directory."""
    if identity.can(lambda: _runs(program)):
        return program
    root, parts = _parts(program.path)
    name = f"{program.path.name}-{program.version}-{int(program.path.stat().st_mtime)}"
    copy = _public_dir(system / "programs") / name
    if not copy.exists():
        _copy_public(root, parts, copy)
    return replace(program, path=copy / program.path.relative_to(root))


def _parts(program: Path) -> tuple[Path, list[Path]]:
    """What a program needs beside it, and the directory in which all of that keeps its place."""
    tree = program.parent.parent
    needed = tree if program.parent.name == "bin" and (tree / "share").is_dir() else program
    for package in program.parents:  # a wheel's libraries lie beside its package
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            return package.parent, [needed, libraries]
    return needed.parent, [needed]


def _copy_public(root: Path, parts: list[Path], target: Path) -> None:
    """Copy what everybody may read and run, whole or not at all."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    for part in parts:
        into = unfinished / part.relative_to(root)
        into.parent.mkdir(parents=True, exist_ok=True)
        if part.is_dir():
            shutil.copytree(part, into, symlinks=True, ignore=_COPIED_WITHOUT)
        else:
            shutil.copy2(part, into)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    unfinished.rename(target)


def _public_dir(path: Path) -> Path:
    """Make a directory everybody may pass, and those above it that are missing; existing ones stay as they are."""
    if not path.exists():
        _public_dir(path.parent)
        path.mkdir()
        path.chmod(0o755)  # whatever the umask
    return path


def _reaches(directory: Path) -> bool:
    return os.access(directory, os.X_OK)


def _runs(program: Program) -> bool:
    return os.access(program.path, os.R_OK | os.X_OK)


def _has_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _ordinary_user() -> pwd.struct_passwd:
    """`nobody`, else any user but root: initdb looks its user id up."""
    users = [user for user in pwd.getpwall() if user.pw_uid != 0]
    if not users:
        raise EngineError("the user database knows nobody but root: add a user, or set DATABASE_URL and REDIS_URL")
    return min(users, key=lambda user: user.pw_name != "nobody")


def _no_way(existing: Path | None) -> str:
    why = "PostgreSQL cannot run as this user, and this system allows no private user namespace; "
    if existing is not None:
        why += f"the data in {existing} is out of reach for others; "
    return why + "run as an ordinary user, set KIEBOT_HOME to a directory others may pass, or set DATABASE_URL"
