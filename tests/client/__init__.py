"""Tests of what runs beside an agent."""
