"""Shapes: overlapping outlines of squares and triangles, binary, 28x28. See README.md."""
