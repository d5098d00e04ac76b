"""Drills: failures that announced nothing, replayed against the engine and scored.

`script.py` says what a drill is, `scripts/` holds one failure a file, `catalogue.py` lists them,
`live.py` plays one against a running engine, `offline.py` plays it without a bus, and `score.py` judges.
"""
