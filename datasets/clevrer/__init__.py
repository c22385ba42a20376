"""CLEVRER: solids that slide and collide before a gray backdrop, 64x64. See README.md."""
