"""Shapes: outlined squares and triangles that lie over each other, binary, 28x28. See README.md."""
