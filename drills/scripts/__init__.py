"""One failure a file: each has a `DRILL`."""
