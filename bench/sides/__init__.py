"""The programs that are compared, each a process of its own: `python -m bench.sides.NAME JOB_FILE`."""
