"""Rules of this repository that no other tool checks."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")

# Put together here, so that this file keeps its own rules.
_OF_ONE_MACHINE = re.compile(r"(?<![\w.:/-])/(?:work|root|home/\w+|Users/\w+)/")
_REGISTRIES = re.compile(
    r"\b(?:pypi\.\w+|(?:files\.)?pythonhosted\.\w+|registry\.npmjs\.\w+|crates\.io|proxy\.golang\.\w+"
    r"|(?:index|registry-1)?\.?docker\.io|ghcr\.io|quay\.io|conda\.anaconda\.\w+)\b"
)
_SECRETS = re.compile(
    r"(?<![\w:-])[0-9]{8,10}:[\w-]{35}(?![\w-])|-----BEGIN [A-Z ]*PRIVATE KEY|\b(?:ghp|gho|sk|xox[bp])[-_]\w{24,}"
)
_MARKED = re.compile(r"fake|simulated|canary|example", re.IGNORECASE)


def committed() -> list[Path]:
    """Every file that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []


def found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in committed()
        for number, line in enumerate(lines_of(path), 1)
        if (match := pattern.search(line))
    ]


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    assert found(_OF_ONE_MACHINE) == []


def test_no_file_names_a_package_registry() -> None:
    assert found(_REGISTRIES) == []


def test_no_file_holds_a_secret_unless_its_text_says_that_it_is_made_up() -> None:
    assert [place for place in found(_SECRETS) if not _MARKED.search(place)] == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (_OF_ONE_MACHINE, "see /" + "home/anna/kiebot"),
        (_OF_ONE_MACHINE, "'/" + "root/x'"),
        (_REGISTRIES, "https://files.pythonhosted" + ".org/x"),
        (_SECRETS, "token=12345678" + ":" + "AAH" + "x1Y" * 10 + "zz"),
    ],
)
def test_these_rules_see_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def prints(path: Path) -> list[str]:
    """Where a module prints without a word why."""
    text = path.read_text(encoding="utf-8")
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    numbers = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    lines = text.splitlines()
    return [f"{path.relative_to(ROOT)}:{n}" for n in numbers if "# noqa: T201 - " not in lines[n - 1]]


def test_only_the_command_line_and_the_demo_print_unless_the_line_says_why() -> None:
    modules = {path for top in ("kiebot", "workers") for path in (ROOT / top).rglob("*.py")}
    talking = {path for part in ("cli", "demo") for path in (ROOT / "kiebot" / part).rglob("*.py")}
    assert [place for path in sorted(modules - talking) for place in prints(path)] == []


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for top in ("kiebot", "workers", "tests") for path in (ROOT / top).rglob("*.py")}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


_WATCHED_IMPORTS = """
import json, os, pkgutil, sys, threading

broken = []

def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        broken.append(f"writes {arguments[0]}")
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir", "os.fork"):
        broken.append(f"{event} {arguments[1:]}")

sys.addaudithook(watch)
done = 0
for top in ("kiebot", "workers"):
    package = __import__(top)
    for module in pkgutil.walk_packages(package.__path__, f"{top}."):
        if module.name.endswith("migrations.env"):  # a script that Alembic runs
            continue
        before = len(broken)
        __import__(module.name)
        broken[before:] = [f"{module.name}: {what}" for what in broken[before:]]
        done += 1
broken += [f"thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps({"done": done, "broken": broken}))
"""


def test_importing_writes_nothing_opens_nothing_and_starts_nothing(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WATCHED_IMPORTS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["done"] > 150
    assert said["broken"] == []
    assert list(tmp_path.iterdir()) == []


def pins(name: str) -> dict[str, str]:
    """Package to version, of a lock file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return {canonicalize_name(m[1]): m[2] for m in re.finditer(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def asked_of(project: dict[str, Any], *groups: str) -> list[Requirement]:
    """The requirements of these dependency groups, those they include with them."""
    collected: list[Requirement] = []
    for group in groups:
        for entry in project["dependency-groups"][group]:
            if isinstance(entry, str):
                collected.append(Requirement(entry))
            else:
                collected += asked_of(project, entry["include-group"])
    return collected


def test_the_locks_satisfy_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    runtime = [Requirement(one) for one in [*project["project"]["dependencies"], *extras["embedded"]]]
    wanted = {
        "requirements.lock": runtime,
        "requirements-dev.lock": runtime + asked_of(project, "dev"),
        "requirements-build.lock": asked_of(project, "build"),
    }
    for name, requirements in wanted.items():
        locked = pins(name)
        unmet = [
            str(one)
            for one in requirements
            if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"), prereleases=True)
        ]
        assert unmet == [], f"{name}: run ./dev lock"


def test_the_locks_agree_and_pin_the_files_of_every_platform() -> None:
    everything = pins("requirements-dev.lock")
    for name in LOCKS:
        assert pins(name).items() <= everything.items()
        for entry in re.split(r"\n(?=\w)", (ROOT / name).read_text(encoding="utf-8")):
            if "==" in entry:
                assert entry.count("--hash=sha256:") >= 2, entry.split()[0]


@pytest.mark.parametrize("name", ["dev", ".ci/run", "deploy/make-secrets"])
def test_a_script_can_be_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    shell = (ROOT / name).read_text().splitlines()[0].split()[-1].split("/")[-1]
    assert subprocess.run([shell, "-n", str(ROOT / name)], capture_output=True, check=False).returncode == 0
