"""Multi-dSprites: overlapping squares, ellipses and hearts, 64x64. See README.md."""
