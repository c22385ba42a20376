"""Trained models as SavedModels that need TensorFlow alone, and their use from NumPy.

    from tfobj.serving import export, zoo

    export.export_model(model, "saved_models/my_model")    # writes saved_models/my_model/1
    decomposer = zoo.load("saved_models/my_model")         # on any machine with TensorFlow
    result = decomposer.decompose(images)                  # NumPy in, NumPy out

| module | holds |
|---|---|
| `signatures`, `clip_signatures` | functions of an exported model: checks, inference, rendering |
| `checks` | their checks and resizing, in TensorFlow ops |
| `export` | writing a version folder, completely or not at all |
| `card` | the README beside it |
| `warmup` | requests that TensorFlow Serving replays before it takes traffic |
| `zoo` | loading exported models by name or folder |
| `loading` | `tfobj.load`: these, and runs |
| `pictures` | a user's files at their own size, for the loaded model |
| `tracking` | objects followed through a clip, and tables of their tracks |
| `fresh_scenes` | generated scenes that no model has seen, by name |
| `output_files` | names and formats of result files |
| `slot_layout`, `editing` | the meaning of the numbers of a slot, and edits of objects |
| `edit_syntax`, `scene_edits`, `edit_tour` | edits as text: grammar, application, tour |
| `edit_session` | a model and the scenes that are edited |
"""
