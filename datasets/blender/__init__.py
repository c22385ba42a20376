"""CLEVR scenes rendered by Blender (Cycles): `driver` starts `worker`, the one file that imports `bpy`, as a program of its own.

Blender is optional, needs Python 3.11 and NumPy 1, and is under the GPL: hence another process, and another environment
if that is what it takes (`driver.VARIABLE`).
"""
