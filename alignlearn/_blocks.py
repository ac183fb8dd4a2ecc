"""Tables in blocks of rows, so that what is made of one needs memory for a block, not for all."""

from __future__ import annotations

from collections.abc import Iterator

# Numbers in a block: 16 MB in double precision, which the allocator uses again and again. Fixed, so
# that results depend on the table alone.
BLOCK_VALUES = 2**21


def rows_of_block(n_columns: int) -> int:
    """Rows in a block of a table, at least one."""
    return max(1, BLOCK_VALUES // max(1, n_columns))


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices that cover the rows of a table in order; one, if it is empty."""
    size = rows_of_block(n_columns)
    for start in range(0, max(1, n_rows), size):
        yield slice(start, min(start + size, n_rows))
