"""The client's refusal flag against human labels (XSTest completions, two models).

    .venv/bin/python -m bench.refusal PATH/xstest.jsonl.gz

The phrasing was developed on the open half of the prompts (even CRC-32 of the prompt's id); of the other half
only the figures were seen while doing so, and a sample of gpt4's refusals, nearly all of them one sentence. A
partial refusal declines one part and does another: F1 is given with it counted as a refusal (what the flag
means), as an answer, and left out. Prints one JSON object.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from watchkeeper_client.refusal import is_refusal

FULL, PARTIAL = "2_full_refusal", "3_partial_refusal"


class Judged(NamedTuple):
    half: str
    model: str
    label: str
    flagged: bool


def f1(judged: list[Judged], refusals: set[str], left_out: frozenset[str] = frozenset()) -> float:
    """The F1 of the flag; 0 when there is nothing to find and nothing was flagged."""
    counted = [one for one in judged if one.label not in left_out]
    hits = sum(one.flagged and one.label in refusals for one in counted)
    wrong = sum(one.flagged != (one.label in refusals) for one in counted)
    return round(2 * hits / (2 * hits + wrong), 3) if hits + wrong else 0.0


def judge(line: str) -> Judged:
    row: dict[str, Any] = json.loads(line)
    prompt = row["trace_id"].rsplit("/", 1)[-1]
    half = "other" if zlib.crc32(prompt.encode()) % 2 else "open"
    return Judged(half, row["model"], row["label"]["human_final"], is_refusal(row["content"]))


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print("give the path of xstest.jsonl.gz", file=sys.stderr)
        return 2
    with gzip.open(sys.argv[1], "rt", encoding="utf-8") as lines:
        judged = [judge(line) for line in lines]
    parts = {
        "all": judged,
        **{half: [one for one in judged if one.half == half] for half in ("open", "other")},
        **{
            model: [one for one in judged if one.model == model]
            for model in sorted({j.model for j in judged})
        },
    }
    figures = {
        name: {
            "answers": len(part),
            "partial is refusal": f1(part, {FULL, PARTIAL}),
            "partial is answer": f1(part, {FULL}),
            "partial left out": f1(part, {FULL}, frozenset({PARTIAL})),
        }
        for name, part in parts.items()
    }
    print(json.dumps({"f1": figures}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
