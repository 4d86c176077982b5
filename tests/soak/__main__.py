"""`python -m tests.soak {ledger, crashpoints, generations, limiter} ...`"""

from __future__ import annotations

import argparse
import sys

from tests import soak
from tests.soak import crashpoints, ledger
from tests.soak.generations import command as generations
from tests.soak.library import command as limiter

COMMANDS = {"ledger": ledger, "crashpoints": crashpoints, "generations": generations, "limiter": limiter}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./dev soak", description=soak.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0]))
    options = parser.parse_args()
    return int(COMMANDS[options.name].run(options))


if __name__ == "__main__":
    sys.exit(main())
