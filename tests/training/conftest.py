"""A small experiment on scenes made of noise, for tests of what surrounds the model."""

import numpy as np
import pytest

TINY = {
    "model.image_size": (10, 12),
    "model.num_slots": 2,
    "model.num_steps": 1,
    "model.slot_size": 4,
    "model.encoder_channels": (4,),
    "model.encoder_kernels": (3,),
    "model.decoder_channels": (4,),
    "model.decoder_kernels": (3,),
    "model.mlp_hidden": 4,
    "train.steps": 6,
    "train.batch_size": 4,
    "train.learning_rate": 1e-3,
    "train.warmup_steps": 0,
    "train.steps_per_call": 2,
    "train.log_every": 2,
    "train.eval_every": 3,
    "train.checkpoint_every": 2,
    "eval.num_scenes": 4,
    "eval.batch_size": 4,
}


def tiny_experiment(**changes):
    """Returns an `ExperimentConfig` whose steps take milliseconds, with overrides."""
    from tfobj.training.experiment import resolve

    return resolve(
        "slot_attention",
        "tetris",
        overrides={**TINY, **{k.replace("__", "."): v for k, v in changes.items()}},
    )


@pytest.fixture
def tiny():
    """`tiny_experiment`."""
    return tiny_experiment


def noise_scenes():
    """Returns `SceneArrays` of eight pictures of noise with two objects each."""
    from tfobj.data.packed import SceneArrays

    rng = np.random.default_rng(0)
    return SceneArrays(
        rng.integers(0, 256, (8, 10, 12, 3), dtype=np.uint8),
        rng.integers(0, 3, (8, 10, 12), dtype=np.uint8),
        num_objects=2,
    )


@pytest.fixture
def scenes():
    """`noise_scenes()`."""
    return noise_scenes()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of a small run of six steps that is finished; tests work on copies of it."""
    import tensorflow as tf

    from tfobj.training import loop

    workdir = tmp_path_factory.mktemp("finished") / "run"
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    settings = {"train.eval_every": 6, "train.checkpoint_every": 6}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "open_scenes", lambda *arguments: (noise_scenes(), "noise"))
        loop.train(tiny_experiment(**settings), workdir, strategy)
    return workdir


@pytest.fixture
def train_tiny(tiny, scenes, monkeypatch):
    """Returns a function that trains the small experiment in a folder.

    train_tiny(workdir, arrays=None, actions=(), **changes)
    """
    import tensorflow as tf

    from tfobj.training import loop

    def train(workdir, arrays=None, actions=(), accept_new_data=False, init_from=None, **changes):
        monkeypatch.setattr(
            loop,
            "open_scenes",
            lambda experiment, split, data_dir=None: (
                scenes if arrays is None else arrays,
                "noise",
            ),
        )
        return loop.train(
            tiny(**changes),
            workdir,
            tf.distribute.OneDeviceStrategy("/cpu:0"),
            actions=actions,
            accept_new_data=accept_new_data,
            init_from=init_from,
        )

    return train


@pytest.fixture
def weights():
    """Returns a function from a run's folder to its weights, path within the model -> array."""
    from tfobj.training.checkpoint import load_run

    return lambda workdir: {
        v.path.partition("/")[2]: v.numpy() for v in load_run(workdir).model.weights
    }
