"""Trained models as SavedModels that need TensorFlow alone, and the way back from a folder to arrays.

    from tfobj.serving import export, zoo

    folder = export.export_model(model, "saved_models/my_model")     # saved_models/my_model/1
    decomposer = zoo.load("saved_models/my_model")                   # here or on any machine with TensorFlow
    result = decomposer.decompose(images)                            # NumPy in, NumPy out

| module | holds |
|---|---|
| `signatures` | the functions of an exported model: checks, resizing, inference, rendering |
| `export` | a version folder, written whole or not at all |
| `card` | the README beside it |
| `warmup` | requests that TensorFlow Serving replays before it takes traffic |
| `zoo` | loading by name or folder |
| `pictures` | files and clips at their own size, for the loaded model |
"""
