"""`python -m kiebot` is `kiebot`."""

from kiebot.cli import main

if __name__ == "__main__":
    main()
