"""What commands return, and print with `--json` as the key `result`; `anymri info --schema` describes it.

Each command returns one of these classes. Keys may be added in a new version; they are neither renamed nor removed.
"""

from __future__ import annotations

# Exit codes: see docs/command-line.md.
DONE, BUG, BAD_INPUT, PARTLY_DONE, INTERRUPTED = 0, 1, 2, 3, 130


class Result:
    """What a command did."""

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return DONE
