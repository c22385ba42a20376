"""Overlapping polygons: two filled regular polygons on black, 64x64. See README.md."""
