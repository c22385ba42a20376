"""CLEVR with masks: three to ten solids before a gray backdrop. See README.md."""
