"""Detectors over a fleet of agents."""
