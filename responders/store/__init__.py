"""What is kept: the incident log, the outbox, what is folded and projected from the log, and their tables."""
