"""tfobj decomposes images and videos into their objects, without labels.

    import tfobj

    # A trained model: one that ships, an exported one, or a run. NumPy in, NumPy out.
    model = tfobj.load("slot_attention_tetris")
    result = model.decompose(images)  # segmentation, masks, slot_recons, recon, slots

    # A model to train: a keras.Model; `SceneOutputs` with recon, masks, slots, ...
    experiment = tfobj.resolve("slot_attention", "tetris", preset="quick")
    model = tfobj.build_model(experiment)
    model.compile()
    model.fit(images)

The command line (`tfobj --help`, or `python launch/train.py` in a checkout) is a thin layer over
the same functions. Nothing heavy is imported here: TensorFlow is loaded by the first name that
needs it.
"""

import pathlib

from tfobj import lazy

__version__ = "0.1.0"

# A source checkout keeps `datasets/` and `launch/` beside `tfobj/` (top-level packages of those
# names would shadow other people's). Installed, they are `tfobj.datasets` and `tfobj.launch`
# (setup.cfg, package_dir); this line gives a checkout the same import names without installing.
_checkout = pathlib.Path(__file__).resolve().parent.parent
if (_checkout / "setup.cfg").is_file() and (_checkout / "datasets").is_dir():
    __path__.append(str(_checkout))

_PUBLIC = {
    "SceneBatch": "structs",
    "SceneOutputs": "structs",
    "ExperimentConfig": "training.experiment",
    "resolve": "training.experiment",
    "build_model": "training.experiment",
    "load": "serving.loading",
    "load_run": "training.checkpoint",
    "UserError": "errors",
}
_ROOMS = ("datasets", "metrics", "models", "viz")
__all__ = [*_PUBLIC, *_ROOMS, "__version__"]

__getattr__, __dir__ = lazy.names(__name__, _PUBLIC, _ROOMS)
