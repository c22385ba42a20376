"""Resolves what a user types (a model, a dataset, a preset, overrides) to one experiment.

TensorFlow is loaded by `build_model`, not before: mistakes are answered at once.
"""

import dataclasses
from typing import Annotated, Literal

from tfobj import files, registry
from tfobj.config import Bounds, Config, NonNegativeInt, Positive, PositiveInt, require
from tfobj.data import folder, packed, protocols
from tfobj.data.pipeline import BatchStream
from tfobj.errors import UserError, unknown_name

DEFAULT_PRESET = "paper"
Decay = Annotated[float, Bounds(low=0, below=1)]
FALLBACK_DATASET = "multi_dsprites"
"""The dataset whose presets serve a user's own pictures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """One update and how many of them. Presets fill in what their paper says."""

    prefix = "train."

    steps: PositiveInt = 100_000
    batch_size: PositiveInt = 32
    """Scenes per update, over all replicas."""
    learning_rate: Positive = 4e-4
    warmup_steps: NonNegativeInt = 0
    """The rate rises linearly from zero over these steps."""
    decay_rate: Positive = 1.0
    decay_steps: PositiveInt = 100_000
    """The rate is multiplied by decay_rate ** ((step - decay_start) / decay_steps), continuously,
    from step decay_start on."""
    decay_start: NonNegativeInt = 0
    cooldown_steps: NonNegativeInt = 0
    """The rate falls to zero over the last steps; 0: it does not."""
    cooldown: Literal["linear", "cosine"] = "linear"
    """How it falls: linearly, or along half a cosine, first slowly and last slowly."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    adam_beta_1: Decay = 0.9
    """Decay of Adam's moving average of gradients."""
    adam_beta_2: Decay = 0.999
    """Decay of Adam's moving average of squared gradients."""
    adam_epsilon: Positive = 1e-8
    adam_epsilon_placement: Literal["tensorflow", "pytorch"] = "tensorflow"
    """Where Adam adds epsilon: to the root of the second moment before its bias is corrected, as
    TensorFlow and Keras do, or after it, as PyTorch does."""
    rmsprop_rho: Decay = 0.99
    rmsprop_epsilon: Positive = 1e-8
    """Keras adds it inside the root, where it acts like its own root outside."""
    clip_norm: Positive | None = None
    """Bound on the global norm of the gradient of the global batch; none: no clipping."""
    ema_decay: Decay = 0.0
    """Above 0, validation, evaluation, figures and exports use an exponential moving average of the
    weights with this decay per update, such as 0.999; less in the first updates."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """bfloat16: layers compute in bfloat16; weights, likelihoods, KL and statistics stay in
    float32. `auto` is bfloat16 where the hardware multiplies in it: TPUs, NVIDIA GPUs from Ampere
    on, and processors with AVX-512 BF16 or AMX. A run keeps what it became."""
    compile: Literal["auto", "graph", "xla"] = "auto"
    """How forward and backward run: `graph` as an ordinary graph, `xla` compiled as a whole.
    `auto` is `xla` on GPU and TPU, and `graph` on CPU, where XLA's convolutions are slower."""
    memory: Literal["default", "low"] = "default"
    """low: chooses `micro_batches` for models of images, `rematerialise` for models of clips, and
    says what it chose."""
    micro_batches: PositiveInt = 1
    """Parts in which every replica processes its scenes, one after the other: the same update in
    less memory and more time."""
    rematerialise: bool = False
    """Keep only the state between refinement steps (of clips, between cells) and recompute the rest
    for the gradient: memory that hardly grows with the number of steps, for 40 to 50 % more time
    (IODINE)."""
    steps_per_call: PositiveInt = 10
    """Updates made on the device before Python looks at the run (signals, progress bar)."""
    log_every: PositiveInt = 100
    """Updates between two rows of the training curves."""
    eval_every: PositiveInt = 1_000
    """Updates between two validations."""
    checkpoint_every: PositiveInt = 1_000
    """Updates between two checkpoints."""
    keep_checkpoints: PositiveInt = 3
    """Newest checkpoints that stay on disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig(Config):
    """Scoring while training and afterwards."""

    prefix = "eval."

    batch_size: PositiveInt = 32
    num_scenes: PositiveInt = 320
    """Validation scenes while training (at most)."""
    num_frames: PositiveInt | None = 40
    """First frames of a test clip that are scored (at most); none: all."""
    num_steps: NonNegativeInt | None = None
    """Refinement steps or attention iterations when scoring and in the exported model; none: as in
    training."""
    best_metric: Literal["fg_ari", "ari", "msc", "miou", "object_miou", "aiou", "dpa_30", "mse"] = (
        "fg_ari"
    )
    """Chooses the best checkpoint on the validation split; mse where there are no labels."""

    def scored_frames(self, num_frames):
        """Returns how many frames are scored of clips that have `num_frames`."""
        return min(self.num_frames or num_frames, num_frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Where scenes come from."""

    prefix = "data."

    protocol: str = "tetris"
    """A protocol that launch/list.py names, or folder:/path/to/pictures."""
    num_train: PositiveInt | None = None
    """Build and use only the first scenes (a quick look); none: the protocol's split."""
    num_test: PositiveInt | None = None

    @property
    def has_splits(self):
        """Whether there are several splits; a folder of pictures is one."""
        return not self.protocol.startswith(folder.PREFIX)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig(Config):
    """Everything that decides the weights of a run, and how it is evaluated."""

    model_name: str
    preset: str = DEFAULT_PRESET
    seed: int = 0
    data: DataConfig = DataConfig()
    model: Config
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.seed < 2**31, "seed", "in 0 ... 2**31 - 1", self.seed)
        least = self.model.minimum_steps
        num_steps = self.eval.num_steps
        is_valid = num_steps is None or num_steps >= least
        require(is_valid, "eval.num_steps", f"at least {least}, or none", num_steps)

    @classmethod
    def from_dict(cls, values, prefix=""):
        for name, kind in (("model_name", str), ("model", dict)):
            received = values.get(name, "(absent)")
            require(isinstance(received, kind), name, files.describe_kind(kind), received)
        model_config = registry.model_config(values["model_name"])
        model = model_config.from_dict(values["model"], prefix="model.")
        return super().from_dict({**values, "model": model}, prefix)


def resolve(model, dataset, preset=DEFAULT_PRESET, overrides=None, seed=0, needs_data=True):
    """Returns the `ExperimentConfig` of a model on a dataset.

    Args:
      model: a name of `registry.MODELS`.
      dataset: a dataset ("tetris"), a protocol ("tetris_public"), or "folder:/path/to/pictures".
      preset: "paper" or another preset of the model for that dataset.
      overrides: dotted setting -> value, e.g. {"train.steps": 3000, "model.num_slots": "11"}.
      seed: of weights, order of the scenes and noise.
      needs_data: False also takes a dataset of which this version has presets but no scenes (for
        work on the program alone).

    Raises:
      UserError: an unknown name or a value out of range; names the nearest valid one.
    """
    name = registry.canonical_model_name(model)
    with_presets = {d for _, d in registry.model_presets(name)}
    with_scenes = {p.dataset for p in protocols.PROTOCOLS.values()}
    if not needs_data and dataset in with_presets - with_scenes:
        image_size = None
        protocol_name = dataset
        chosen = _preset(name, preset, dataset)
    else:
        chosen = _preset(name, preset, _preset_dataset(dataset))
        image_size, protocol_name = _scene_format(dataset, chosen)

    # The data decides the format; overrides come last, and may change all of it. All at once, since
    # settings are checked together: a preset need not fit the image size of the default.
    overrides = overrides or {}
    changes = dict(chosen.model)
    if image_size is not None:
        changes |= {"image_size": image_size[:2], "channels": image_size[2]}
    prefix = "model."
    changes |= {k.removeprefix(prefix): v for k, v in overrides.items() if k.startswith(prefix)}
    config = registry.model_config(name)().override(changes, prefix)

    experiment = ExperimentConfig(
        model_name=name,
        preset=preset,
        seed=seed,
        data=DataConfig(protocol=protocol_name).override(chosen.data, prefix="data."),
        model=config,
        train=TrainConfig().override(chosen.train, prefix="train."),
        eval=EvalConfig().override(chosen.eval, prefix="eval."),
    )
    return experiment.override(overrides)


def expected_duration(experiment):
    """Returns how long the experiment's preset takes on what hardware, as its `Preset` says.

    Empty if that is unknown, or the number of steps is not the preset's.
    """
    presets = registry.model_presets(experiment.model_name)
    try:
        preset = presets[experiment.preset, _preset_dataset(experiment.data.protocol)]
    except KeyError:
        return ""
    return preset.duration if preset.train["steps"] == experiment.train.steps else ""


def build_model(experiment):
    """Builds the model with the initial weights that the experiment's seed decides.

    Sets Keras' random seed and its global dtype policy for the duration of the construction.
    """
    import keras

    from tfobj.training import precision

    model = registry.model_class(experiment.model_name)
    keras.utils.set_random_seed(experiment.seed)
    before = keras.config.dtype_policy()
    policies = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
    keras.config.set_dtype_policy(policies[precision.decide(experiment.train.precision)])
    try:
        return model(experiment.model, run_seed=experiment.seed)
    except ValueError as e:  # A combination of layer settings that cannot be built.
        raise UserError(f"This model cannot be built. {e}") from e
    finally:
        keras.config.set_dtype_policy(before)


def open_scenes(experiment, split, data_dir=None):
    """Opens the scenes of a split of the experiment's data; builds the dataset first if need be.

    Returns:
      (arrays, description): `SceneArrays` and the line that says what they are.
    """
    name = experiment.data.protocol
    size = (*experiment.model.image_size, experiment.model.channels)
    if not experiment.data.has_splits:
        path = name.removeprefix(folder.PREFIX)
        arrays = folder.open_folder(path, size, skip_unreadable=True)
        description = (
            f"{len(arrays)} pictures of {path}, centre-cropped to {'x'.join(map(str, size))}, "
            "without labels"
        )
        return arrays, description

    protocol = protocols.sized(name, experiment.data.num_train, experiment.data.num_test)
    if protocol.image_size != size:
        raise UserError(
            f"`model.image_size` must be that of the data, {protocol.image_size[:2]}, and "
            f"`model.channels` {protocol.image_size[2]}. "
            f"Received: {experiment.model.image_size} and {experiment.model.channels}."
        )
    return packed.open_split(protocol, split, data_dir), protocol.describe(split)


def first_batches(experiment, scenes):
    """Returns the `BatchStream` that training begins with.

    An image model takes the frames of clips as images.
    """
    batch_size = experiment.train.batch_size
    if not experiment.model.is_video:
        return BatchStream(scenes.frames(), batch_size, seed=experiment.seed)
    return BatchStream(
        scenes, batch_size, seed=experiment.seed, num_frames=experiment.model.num_frames
    )


def _preset_dataset(dataset):
    """Returns the dataset whose presets apply to what a user calls a dataset."""
    if dataset.startswith(folder.PREFIX):
        return FALLBACK_DATASET
    known = {p.dataset for p in protocols.PROTOCOLS.values()}
    if dataset not in protocols.PROTOCOLS and dataset not in known:
        valid = {*known, *protocols.PROTOCOLS, folder.PREFIX + "PATH"}
        raise unknown_name("dataset", dataset, valid)
    if dataset in known:
        return dataset
    return protocols.get(dataset).dataset


def _scene_format(dataset, preset):
    """Returns ((H, W, C), protocol name).

    A dataset may have several protocols; the one with the preset's image size is taken.
    """
    if dataset.startswith(folder.PREFIX):
        return (64, 64, 3), dataset

    if dataset in {p.dataset for p in protocols.PROTOCOLS.values()}:
        image_size = preset.model.get("image_size")
        channels = preset.model.get("channels")
        protocol = protocols.default_protocol(dataset, image_size, channels)
    else:
        protocol = protocols.get(dataset)
    return protocol.image_size, protocol.name


def _preset(model, preset, dataset):
    """Returns the `Preset`.

    Raises:
      UserError: there is none; lists those of the model for the dataset.
    """
    presets = registry.model_presets(model)
    if (preset, dataset) not in presets:
        valid = [p for p, d in presets if d == dataset]
        if not valid:
            raise unknown_name(f"dataset for {model}", dataset, {d for _, d in presets})
        raise unknown_name(f"preset for {model} on {dataset}", preset, valid)
    return presets[preset, dataset]
