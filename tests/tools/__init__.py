"""Tests of the tools that make files in docs."""
