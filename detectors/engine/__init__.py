"""Detectors of what goes wrong with the engine and its telemetry."""
