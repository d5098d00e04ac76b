"""Evaluation of what must hold inside a session, on recorded runs: one file for each question."""
