"""`kiebot run`, whose only thread sleeps for five seconds when it is sent SIGUSR1: a handler that forgot to await."""

from __future__ import annotations

import signal
import sys
import time

from kiebot.cli import cli

BLOCKED_S = 5.0


def main() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(BLOCKED_S))
    if "--mutant" in sys.argv:
        from kiebot.demo.mutant_replica import PATCHES

        PATCHES[sys.argv[sys.argv.index("--mutant") + 1]]()
    cli(["run"])


if __name__ == "__main__":
    main()
