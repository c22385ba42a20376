"""Small experiments on real scenes and clips, and a host that has only JAX and NumPy."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

IODINE = {
    "model.decoder_channels": (6,),
    "model.decoder_kernel": 3,
    "model.refinement_channels": (6,),
    "model.refinement_mlp": (8,),
    "model.refinement_kernel": 3,
    "model.num_steps": 2,
    "model.latent_size": 4,
    "model.lstm_size": 8,
}
SMALL = {
    "slot_attention": {
        "model.encoder_channels": (6, 6),
        "model.encoder_kernels": (3,),
        "model.encoder_strides": (2, 2),
        "model.decoder_channels": (6,),
        "model.decoder_kernels": (3,),
        "model.slot_size": 6,
        "model.mlp_hidden": 8,
        "model.num_steps": 2,
    },
    "iodine": IODINE,
    "sequential_iodine": {
        **IODINE,
        "model.num_frames": 2,
        "model.curriculum": ((10, 4),),
        "eval.num_frames": 5,
    },
    "video_decomposition": {
        "model.num_steps": 2,
        "model.num_frames": 1,
        "model.curriculum": ((10, 3),),
        "model.latent_size": 4,
        "model.lstm_size": 8,
        "model.decoder_hidden": (8,),
        "model.decoder_channels": (6, 6),
        "model.refinement_channels": (6, 6),
        "model.refinement_features": 8,
        "model.prior_hidden": 8,
        "eval.num_frames": 3,
    },
}
"""Models of clips train on longer clips, in smaller batches, from the tenth update on."""
TRAIN = {
    "data.num_train": 48,
    "data.num_test": 12,
    "train.steps": 20,
    "train.batch_size": 4,
    "train.learning_rate": 1e-3,
    "train.warmup_steps": 8,
    "train.cooldown_steps": 5,
    "train.cooldown": "cosine",
    "train.ema_decay": 0.9,
    "train.clip_norm": 1.0,
    "train.log_every": 1,
    "train.eval_every": 20,
    "train.checkpoint_every": 10,
    "eval.batch_size": 8,
}

_HIDE = """
import runpy, sys
HIDDEN = {
    "tensorflow", "keras", "tf_keras", "tensorflow_probability", "tensorflow_datasets",
    "absl", "tqdm", "matplotlib", "scipy", "PIL", "etils", "flatbuffers",
}

class Absent:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package in HIDDEN and (package != "scipy" or not by_jax()):
            raise ImportError(name + " is not on this host")

def by_jax():  # JAX itself needs SciPy and brings it along
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return any(part in frame.f_code.co_filename for part in ("/jax/", "/jaxlib/", "/scipy/"))

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


# Several tests start the same program; it is compiled once.
_CACHE = tempfile.TemporaryDirectory(prefix="jax_cache_")
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": _CACHE.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def small(model, dataset=None, **changes):
    """Returns a small `ExperimentConfig` on Tetris, or on bouncing balls for a model of clips.

    Warm-up, cool-down and clipping bind within its 20 steps.
    """
    from tfobj import registry
    from tfobj.training.experiment import resolve

    if dataset is None:
        dataset = "balls4_color_32" if registry.model_config(model).is_video else "tetris"
    return resolve(
        model,
        dataset,
        overrides={
            **SMALL[model],
            **TRAIN,
            **{k.replace("__", "."): v for k, v in changes.items()},
        },
    )


def jax_only(*arguments, **options):
    """Starts launch/run_step.py where nothing but JAX, its own needs and NumPy can be imported."""
    command = [
        sys.executable,
        "-c",
        _HIDE,
        os.fspath(ROOT / "launch" / "run_step.py"),
        *map(str, arguments),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **_ENVIRONMENT},
        **options,
    )


def run_step(*arguments):
    """Runs the command to its end; returns (exit status, its error output)."""
    process = jax_only(*arguments)
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, errors


def rows(workdir, split="train"):
    """Returns the rows of a split of `<workdir>/metrics.jsonl`."""
    return [
        row
        for row in map(
            json.loads, (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
        )
        if row["split"] == split
    ]
