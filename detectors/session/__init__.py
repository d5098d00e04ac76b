"""Detectors of what must hold inside a session."""
