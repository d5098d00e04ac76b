"""The one kind of error that ends in a single line for a person."""

from __future__ import annotations


class CorrectableError(Exception):
    """Something a person can put right. The message is one line: what is wrong, and what to do."""
