"""CLEVRER: spheres, cylinders and cubes that slide and collide before a gray backdrop. See README.md."""
