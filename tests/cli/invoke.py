"""The command line inside the test's own process, without the time a new interpreter takes."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from cli import common
from cli.main import run

WIDTH = 200
# The terminal's width was read when the console was made: whoever imported it first decided it.
common.stdout.width = common.stderr.width = WIDTH


@dataclass(frozen=True)
class Invoked:
    """What came of it."""

    returncode: int
    stdout: str
    stderr: str


def invoke(*arguments: str, env: dict[str, str] | None = None) -> Invoked:
    """Runs `watchkeeper` with the arguments, to its end."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        patch.object(sys, "argv", ["watchkeeper", *arguments]),
        patch.dict(os.environ, {"COLUMNS": str(WIDTH), **(env or {})}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            run()
        except SystemExit as ended:
            code = ended.code
    return Invoked(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())
