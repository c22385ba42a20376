"""Video Objects Room: camera flights through rooms with solids on the floor, 64x64. See README.md."""
