"""Tetrominoes: three shaded pieces on black, 35x35. See README.md."""
