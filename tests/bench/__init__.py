"""The benchmark's own tests: a benchmark that has rotted measures nothing."""
