"""Video Objects Room: camera flights through rooms with solids, 64x64. See README.md."""
