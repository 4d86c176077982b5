"""Faults to come: a queue per endpoint, each used once, in the order they were asked for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from kiebot.simulators.kie.switches import LoseVariant, NoiseKind, ResultMode

Endpoint = Literal["create", "query", "credit", "upload", "file", "link", "models"]

_COMMON = frozenset(get_args(NoiseKind))
_KINDS: dict[str, frozenset[str]] = {
    "create": _COMMON | {f"lose_{variant}" for variant in get_args(LoseVariant)} | {"transient"},
    "query": _COMMON | {"record_is_null", "null_data"},
    "file": frozenset(get_args(ResultMode)) - {"normal"},
}
_CODE = re.compile(r"code_\d{3}|http_\d{3}")


@dataclass(frozen=True, slots=True)
class Fault:
    """What will go wrong with one request; `model` None means whichever comes first."""

    endpoint: Endpoint
    kind: str
    model: str | None = None


class Faults:
    """Scripted faults.

    Kinds for every API endpoint: reset, html_502, html_503, html_504, not_json, slow_headers, `code_NNN` (that code in
    the envelope) and `http_NNN` (that code as HTTP status too). For create also lose_a, lose_b, lose_c, lose_d,
    lose_d0, lose_e, transient; "lose_answer" means lose_a. For query also record_is_null, null_data. For file every
    `ResultMode`.
    """

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def next_create(self, kind: str, *, count: int = 1, model: str | None = None) -> None:
        """The next `count` creates (of that model, if named) go wrong. Raises: ValueError, for an unknown kind."""
        self.add("create", "lose_a" if kind == "lose_answer" else kind, count=count, model=model)

    def next_query(self, kind: str, *, count: int = 1) -> None:
        """The next `count` recordInfo calls go wrong. Raises: ValueError, for an unknown kind."""
        self.add("query", kind, count=count)

    def next_upload(self, kind: str, *, count: int = 1) -> None:
        """The next `count` uploads go wrong. Raises: ValueError, for an unknown kind."""
        self.add("upload", kind, count=count)

    def next_file(self, kind: str, *, count: int = 1) -> None:
        """The next `count` file downloads go wrong. Raises: ValueError, for an unknown kind."""
        self.add("file", kind, count=count)

    def add(self, endpoint: Endpoint, kind: str, *, count: int = 1, model: str | None = None) -> None:
        """Queue one fault `count` times. Raises: ValueError, for an unknown endpoint or kind."""
        if endpoint not in get_args(Endpoint):
            raise ValueError(f"no such endpoint: {endpoint}")
        allowed = _KINDS.get(endpoint, _COMMON)
        if kind not in allowed and (endpoint == "file" or not _CODE.fullmatch(kind)):
            raise ValueError(f"no such fault for {endpoint}: {kind}; known: {', '.join(sorted(allowed))}")
        self._waiting += [Fault(endpoint, kind, model)] * count

    def take(self, endpoint: Endpoint, model: str | None = None) -> str | None:
        """The kind of the next fault for this request, which is thereby used up; None when there is none."""
        for index, fault in enumerate(self._waiting):
            if fault.endpoint == endpoint and fault.model in (None, model):
                return self._waiting.pop(index).kind
        return None

    def clear(self) -> None:
        """Forget every fault that has not struck yet."""
        self._waiting.clear()

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._waiting)
