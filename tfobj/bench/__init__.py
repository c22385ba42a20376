"""Measurements: speed, memory, arithmetic, equality of engines, and compilation for TPUs."""
