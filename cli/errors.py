"""What a user can cause and mend: one line on standard error, exit 1, no traceback."""

from __future__ import annotations

from config.errors import CorrectableError


class UserError(CorrectableError):
    """Something the user can put right; the message says how."""
