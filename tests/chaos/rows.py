"""All rows of the matrix: importing a file of rows declares them."""

from __future__ import annotations

from tests.chaos import rows_holder, rows_network, rows_redis, rows_rest, rows_work
from tests.chaos.matrix import ROWS

__all__ = ["ROWS", "rows_holder", "rows_network", "rows_redis", "rows_rest", "rows_work"]
