"""Bouncing balls: 51 frames of discs that collide in a box, 64x64. See README.md."""
