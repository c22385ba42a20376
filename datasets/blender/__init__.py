"""CLEVR scenes rendered by Blender (Cycles): `driver` runs `worker`, which imports `bpy`.

Blender is optional, needs Python 3.11 and NumPy 1, and is under the GPL. Therefore `worker`, the
only file that imports `bpy`, runs in a process of its own, and if necessary in another environment
(`driver.VARIABLE`).
"""
