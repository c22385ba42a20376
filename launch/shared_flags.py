"""Flags that several commands have, defined once.

A command calls the functions it needs at its top level and keeps what they return:

    _WORKDIR = shared_flags.workdir(required=True)

Each flag belongs to the command that asked for it: its --help shows the flag, and other commands do
not have it.
"""

from absl import flags

from tfobj import commands

# absl gives a flag to the module that defines it, unless the module says that it defines for
# others.
flags.disclaim_key_flags()

MODEL = f"Model; `{commands.spoken('list')}` shows all."
DATASET = "Data set, protocol, or folder:/path/to/pictures."


def model(default="slot_attention", text=MODEL):
    """Defines --model."""
    return flags.DEFINE_string("model", default, text)


def dataset(default="tetris", text=DATASET):
    """Defines --dataset."""
    return flags.DEFINE_string("dataset", default, text)


def preset(default="paper", text="Hyperparameters of the model for the data set."):
    """Defines --preset."""
    return flags.DEFINE_string("preset", default, text)


def overrides(example="train.batch_size=8", text="Override a setting"):
    """Defines --set."""
    return flags.DEFINE_multi_string("set", [], f"{text}, e.g. --set {example}; repeatable.")


def strategy(text="Where to compute: auto, cpu, gpu, mirrored, tpu."):
    """Defines --strategy."""
    return flags.DEFINE_string("strategy", "auto", text)


def seed(default=0, text="Seed of the weights, the order of the scenes, and the noise."):
    """Defines --seed."""
    return flags.DEFINE_integer("seed", default, text)


def data_dir(text="Folder of the TFDS data; default $TFDS_DATA_DIR or ~/tensorflow_datasets."):
    """Defines --data_dir."""
    return flags.DEFINE_string("data_dir", None, text)


def workdir(required=False, text="Folder of the run."):
    """Defines --workdir."""
    return flags.DEFINE_string("workdir", None, text, required=required)


def checkpoint():
    """Defines --checkpoint."""
    return flags.DEFINE_enum(
        "checkpoint",
        "latest",
        ["latest", "best"],
        "State of the run: the latest, or the best on validation scenes.",
    )


def split(default="test", text="Split of the run's protocol: test, test_large, validation, train."):
    """Defines --split."""
    return flags.DEFINE_string("split", default, text)


def saved_model(required=False, text="Name of a shipped model, or folder of an exported one."):
    """Defines --saved_model."""
    return flags.DEFINE_string("saved_model", None, text, required=required)


def fit():
    """Defines --fit."""
    return flags.DEFINE_string(
        "fit",
        "crop",
        "How to fit a picture of another shape: crop (the centre), pad (black borders), stretch.",
    )


def num_slots(text="Number of slots; default: the model's."):
    """Defines --num_slots."""
    return flags.DEFINE_integer("num_slots", None, text)


def num_steps(text="Number of refinement steps; default: the model's."):
    """Defines --num_steps."""
    return flags.DEFINE_integer("num_steps", None, text)


def batch_size(text):
    """Defines --batch_size."""
    return flags.DEFINE_integer("batch_size", 32, text, lower_bound=1)


def out(default="out", text="Folder for the results; created if it does not exist."):
    """Defines --out."""
    return flags.DEFINE_string("out", default, text)


def json_file():
    """Defines --json."""
    return flags.DEFINE_string("json", None, "File for all numbers.")


def write_docs(text):
    """Defines --write_docs and --check; returns both."""
    return (
        flags.DEFINE_bool("write_docs", False, text),
        flags.DEFINE_bool(
            "check",
            False,
            "With --write_docs: change nothing; exit with status 2 if the page is not up to date.",
        ),
    )
