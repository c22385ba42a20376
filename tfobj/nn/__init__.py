"""Deterministic building blocks; no probability, no losses."""
