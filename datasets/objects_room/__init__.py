"""Objects Room: solids on the floor of a coloured room, 64x64. See README.md."""
