"""Detectors over an agent's behaviour, fed with merged windows."""
