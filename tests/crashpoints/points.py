"""Every await of the engine, from its syntax trees; and an import hook that makes each of them a checkpoint.

`await x` becomes `await around(point, x)`, `async with x` becomes `async with block(point, x)`: before and after each
wait the process may end, for good and without a word, as by a power cut. The product's files are not touched. The hook
also brings in the rule that a mutant breaks, for all processes that inherit its name in the environment.
"""

from __future__ import annotations

import ast
import importlib.machinery
import os
import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, TypeVar

from tests.crashpoints.mutants import MUTANT, mutated

MODULES = (
    *(f"kiebot.generation.{name}" for name in ("service", "submit", "stops", "alarm", "uploads", "watch", "effects")),
    *(f"kiebot.delivery.{name}" for name in ("courier", "results", "card")),
    "kiebot.intake.drain",
    *(f"kiebot.payments.{name}" for name in ("credit", "refunds")),
)
# Modules of the engine that wait and are not read, and why.
NOT_READ = {"kiebot.generation.lengths": "it waits for a temporary copy, within the one wait for an upload"}
# (file, function) -> why no replica comes by. A story that does makes the run fail; so does a name that is gone.
LEFT_OUT = {("payments/refunds.py", "Refunds.refund"): "an operator's command runs it, in a process of its own"}
ROOT = Path(__file__).parents[2]
KILLED = 77  # the exit status of a process that ended at its point
T = TypeVar("T")


class _Checkpoints(ast.NodeTransformer):
    """Wraps what is awaited, and notes where."""

    def __init__(self, module: str) -> None:
        self._file = f"{module.removeprefix('kiebot.').replace('.', '/')}.py"
        self.found: list[str] = []
        self.left_out: dict[str, str] = {}  # point -> function
        self._within: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node, node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._inside(node, node.name)

    def _inside(self, node: ast.AST, name: str) -> ast.AST:
        self._within.append(name)
        self.generic_visit(node)
        self._within.pop()
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        node.value = self._call("__crash_around__", node, node.value, ("before", "after"))
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        self.generic_visit(node)
        for item in node.items:
            moments = ("before entry", "after entry", "before exit", "after exit")
            item.context_expr = self._call("__crash_block__", item.context_expr, item.context_expr, moments)
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        raise NotImplementedError(f"{self._file}:{node.lineno}: an async for awaits too")

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if node.is_async:
            raise NotImplementedError(f"{self._file}: an async comprehension awaits too")
        return self.generic_visit(node)

    def _call(self, name: str, place: ast.expr, awaited: ast.expr, moments: Sequence[str]) -> ast.expr:
        point = f"{self._file}:{place.lineno}:{place.col_offset}"
        points = [f"{point} {moment}" for moment in moments]
        function = ".".join(self._within)
        if (self._file, function) in LEFT_OUT:
            self.left_out.update(dict.fromkeys(points, function))
        else:
            self.found += points
        call = ast.Call(ast.Name(name, ast.Load()), [ast.Constant(point), awaited], [])
        return ast.fix_missing_locations(ast.copy_location(call, place))


def listed(mutant: str | None = None) -> list[str]:
    """Every point of every module, but for those left out."""
    return [point for checkpoints in _visited(mutant) for point in checkpoints.found]


def left_out() -> list[str]:
    """The points of the functions of LEFT_OUT. Raises: LookupError, when one of them has none any more."""
    points = {point: function for checkpoints in _visited(None) for point, function in checkpoints.left_out.items()}
    gone = LEFT_OUT.keys() - {(point.partition(":")[0], function) for point, function in points.items()}
    if gone:
        raise LookupError(f"nothing waits in {gone}")
    return list(points)


def _visited(mutant: str | None) -> Iterator[_Checkpoints]:
    for module in MODULES:
        checkpoints = _Checkpoints(module)
        checkpoints.visit(ast.parse(_source(module, mutant)))
        yield checkpoints


def placed(file: str, snippet: str, moment: str, mutant: str | None = None) -> str:
    """The last point at the line of `file` (such as generation/submit.py) that holds `snippet`. Raises: LookupError."""
    module = f"kiebot.{file.removesuffix('.py').replace('/', '.')}"
    lines = _source(module, mutant).splitlines()
    starts = [f"{file}:{number}:" for number, line in enumerate(lines, 1) if snippet in line]
    found = [point for point in listed(mutant) if point.endswith(moment) and point.startswith(tuple(starts))]
    if not found:
        raise LookupError(f"no point {moment} {snippet!r} in {file}")
    return found[-1]


def _source(module: str, mutant: str | None) -> str:
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    return mutated(module, text, mutant)


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the changed tree; keeps no bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        checkpoints = _Checkpoints(fullname)
        source = self.get_data(self.path).decode()
        tree = checkpoints.visit(ast.parse(mutated(fullname, source, os.environ.get(MUTANT))))
        return compile(tree, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(__crash_around__=around, __crash_block__=Block)
        super().exec_module(module)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name not in MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


def install() -> None:
    """From now on the modules are imported with their checkpoints. Raises: RuntimeError, if one is there already."""
    early = [module for module in MODULES if module in sys.modules]
    if early:
        raise RuntimeError(f"imported before the hook: {early}")
    sys.meta_path.insert(0, _Finder)


class Watch:
    """How often this process came by each point since it was armed, and where it ends: at which time it comes by."""

    ends_at: str | None = None
    ends_at_time = 1
    is_armed = False
    passed: dict[str, int] = {}  # noqa: RUF012 - one process, one watch


def _passes(point: str) -> None:
    if not Watch.is_armed:
        return
    times = Watch.passed[point] = Watch.passed.get(point, 0) + 1
    if point == Watch.ends_at and times == Watch.ends_at_time:
        os._exit(KILLED)


async def around(point: str, awaited: Awaitable[T]) -> T:
    _passes(f"{point} before")
    try:
        return await awaited
    finally:
        _passes(f"{point} after")


class Block(AbstractAsyncContextManager[Any]):
    def __init__(self, point: str, inner: AbstractAsyncContextManager[Any]) -> None:
        self._point, self._inner = point, inner

    async def __aenter__(self) -> Any:
        _passes(f"{self._point} before entry")
        entered = await self._inner.__aenter__()
        _passes(f"{self._point} after entry")
        return entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        _passes(f"{self._point} before exit")
        try:
            return await self._inner.__aexit__(kind, error, trace)
        finally:
            _passes(f"{self._point} after exit")
