"""Writes the pages that are generated from code: `./dev docs`. A test holds the committed ones equal."""

from __future__ import annotations

from pathlib import Path

from kiebot.observe.metrics import metrics_markdown
from kiebot.settings import configuration_markdown


def write(folder: Path) -> None:
    """docs/configuration.md and docs/metrics.md."""
    (folder / "configuration.md").write_text(configuration_markdown(), encoding="utf-8")
    (folder / "metrics.md").write_text(metrics_markdown(), encoding="utf-8")


if __name__ == "__main__":
    write(Path("docs"))
