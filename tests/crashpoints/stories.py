"""What people do and what happens to them, so that every await of the engine is come by in one story or another."""

from __future__ import annotations

from tests.crashpoints.making import MAKING
from tests.crashpoints.telling import TELLING

STORIES = (*MAKING, *TELLING)
