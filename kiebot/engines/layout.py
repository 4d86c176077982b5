"""Where everything of one home lies, and how its files are written.

    KIEBOT_HOME/engines/    users.lock, keeper.lock     who uses the engines, who keeps them
                            postgres.alive, redis.alive held by the engines' processes
                            keeper.json                 the running keeper's word, locked by it while it lives
                            secrets.json                the passwords (0600)
                            state.json                  what made the data, and where it lies
                            data/postgres, data/redis   the data (elsewhere when root must run as nobody)
                            logs/                       keeper, postgres, redis
    /tmp/kiebot-<uid>-<hash of home>/                   the sockets: a path of at most 107 bytes

The locks lie beside the data and not beside the sockets: what they guard is the data, and a temporary directory may be
swept by the system or be a private one per service, which would make two keepers of one home.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiebot.engines.errors import EngineError

LOG_LIMIT_BYTES = 5_000_000
SYSTEM_DIR = Path("/var/lib/kiebot")
NAMESPACE, NOBODY = "namespace", "nobody"
WAYS = (NAMESPACE, NOBODY)
_SOCKET_LIMIT_BYTES = 107
_LONGEST_SOCKET = ".s.PGSQL.5432"


@dataclass(frozen=True)
class Layout:
    """The paths of one home. `home` is absolute, its links resolved."""

    home: Path

    @classmethod
    def of(cls, home: Path) -> Layout:
        return cls(Path(home).expanduser().resolve())

    @property
    def dir(self) -> Path:
        return self.home / "engines"

    @property
    def users_lock(self) -> Path:
        return self.dir / "users.lock"

    @property
    def keeper_lock(self) -> Path:
        return self.dir / "keeper.lock"

    @property
    def keeper_word(self) -> Path:
        return self.dir / "keeper.json"

    @property
    def keeper_error(self) -> Path:
        return self.dir / "keeper.error"

    @property
    def state(self) -> Path:
        return self.dir / "state.json"

    @property
    def data(self) -> Path:
        return self.dir / "data"

    def alive(self, name: str) -> Path:
        """The lock that every process of this engine holds."""
        return self.dir / f"{name}.alive"

    @property
    def held_while_running(self) -> tuple[Path, ...]:
        """The locks that are free when nothing of the engines runs."""
        return self.keeper_lock, self.alive("postgres"), self.alive("redis")

    @property
    def digest(self) -> str:
        return hashlib.sha256(os.fsencode(self.home)).hexdigest()[:10]

    def log(self, name: str) -> Path:
        return self.dir / "logs" / f"{name}.log"

    def make(self) -> None:
        """Create what is missing. Modes of directories that exist, this home's parents above all, stay as they are."""
        # Root may have to run the engines as another user, who must be able to pass through, not to list.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.home.parent.mkdir(parents=True, exist_ok=True)
            for path in (self.home, self.dir):
                path.mkdir(mode=mode, exist_ok=True)
            self.log("keeper").parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EngineError(f"cannot create {self.dir}: {error.strerror}; set KIEBOT_HOME") from error
        if self.dir.stat().st_uid != os.geteuid():
            raise EngineError(f"{self.dir} belongs to another user: run as that user or set another KIEBOT_HOME")

    def passwords(self) -> dict[str, str]:
        """The passwords by role: superuser, kiebot, redis. Made once."""
        path = self.dir / "secrets.json"
        if not path.exists():
            write_json(path, {role: secrets.token_urlsafe(24) for role in ("superuser", "kiebot", "redis")})
        return {str(role): str(password) for role, password in read_json(path).items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file at once and durably, 0600: a reader sees the old or the new, never a part."""
    fd, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(fd)
    Path(name).replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def read_json(path: Path) -> dict[str, Any]:
    """The file's object; empty when there is no such file. Raises: EngineError, when it is not one."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise EngineError(f"{path} is damaged: restore it from a backup") from error
    return content if isinstance(content, dict) else {}


def open_log(path: Path) -> int:
    """A descriptor that appends; a log past its limit is begun anew."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    bound_log(fd)
    return fd


def bound_log(fd: int) -> None:
    """Empty a log that grew past its limit; safe beside its writers, since all of them append."""
    if os.fstat(fd).st_size > LOG_LIMIT_BYTES:
        os.ftruncate(fd, 0)


def socket_dir(layout: Layout) -> Path:
    """Where this home's sockets lie: always the same, so that addresses outlive a keeper.

    Not XDG_RUNTIME_DIR by preference: it vanishes at logout, which a keeper may outlive, and differs between sessions.
    """
    base = Path("/tmp")  # noqa: S108 - the directory is our own, 0700, and checked before use
    if not os.access(base, os.W_OK | os.X_OK):
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    path = base / f"kiebot-{os.geteuid()}-{layout.digest}"
    if len(os.fsencode(path / _LONGEST_SOCKET)) > _SOCKET_LIMIT_BYTES:
        raise EngineError(f"{path} is too long for sockets: set TMPDIR to a shorter directory")
    return path


def make_socket_dir(path: Path, uid: int, gid: int) -> None:
    """Create the directory for this owner, or check the one that is there."""
    try:
        path.mkdir(mode=0o700)
        if uid != os.geteuid():
            os.chown(path, uid, gid)
    except FileExistsError:
        pass
    check_socket_dir(path, uid)


def check_socket_dir(path: Path, uid: int) -> None:
    """Raises: EngineError, unless it is a real directory of this owner that nobody else may enter."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise EngineError(f"{path} is missing: does this process have a private temporary directory?") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise EngineError(f"{path} is not a private directory of user id {uid}, so it is not trusted: remove it")
