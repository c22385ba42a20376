r"""Compares samples of a model's prior with held-out images.

    python launch/score_samples.py --workdir=runs/genesis_tetris
    python launch/score_samples.py --workdir=runs/factored_scenes_polygons \
        --num_samples=10000 --per_object
    python launch/score_samples.py --workdir=runs/vae_tetris --features=inception \
        --inception_weights=classify_image_graph_def.pb

Two statistics compare features of N samples and N held-out images (of the run's protocol, --split);
smaller is better:

    frechet_<features>    Frechet distance
    mmd_<features>        squared MMD with a cubic kernel: mean over subsets of 1,000; also _std
                          over subsets, and _x100, the mean times 100
    ..._floor             of N other held-out images: the score of a perfect model with this N
    ..._extrapolated      with --extrapolate: for infinitely many samples, from a line over 1 / N

Samples that are NaN or infinite have failed: `failed_samples` counts them, and all distances are
infinite (null in the file) if there are any.

They are called fid and kid only on the features of the 2015 Inception graph, whose weights you
supply. The features that need no file, random_conv and pixels, order models of one data set but
compare with no paper. The Frechet distance falls with N, so compare at equal N. With --per_object
single objects are compared (factored_scenes): samples decoded with one object and the background,
and held-out scenes drawn again with one object.

The run's folder, or --out, gets generation.json and figures/samples.png; with --per_object
generation_objects.json and figures/samples_objects.png. Files of other splits than test_large have
the split in their names.
"""

import math
import pathlib
import sys

if not __package__:  # `python launch/score_samples.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_WORKDIR = shared_flags.workdir(required=True)
_CHECKPOINT = shared_flags.checkpoint()
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples",
    1_000,
    "N: samples, and held-out images (fewer if the split has fewer).",
    lower_bound=2,
)
_FEATURES = flags.DEFINE_enum(
    "features",
    "random_conv",
    ["random_conv", "pixels", "inception"],
    "What images are compared by.",
)
_INCEPTION_WEIGHTS = flags.DEFINE_string(
    "inception_weights",
    None,
    "The 2015 Inception graph, for --features=inception: .pb file or SavedModel.",
)
_SPLIT = shared_flags.split("test_large", "Split of the run's protocol to compare with.")
_PER_OBJECT = flags.DEFINE_bool("per_object", False, "Compare single objects instead of scenes.")
_EXTRAPOLATE = flags.DEFINE_bool(
    "extrapolate", False, "Also extrapolate the Frechet distance to infinitely many samples."
)
_SEED = shared_flags.seed(
    default=None, text="Seed of the samples; default: the same for every run."
)
_BATCH_SIZE = shared_flags.batch_size("Images per call; does not change the samples.")
_DATA_DIR = shared_flags.data_dir()
_OUT = shared_flags.out(default=None, text="Folder of the results; default: the run's.")

ROWS = 6
COLUMNS = 8
"""Samples in the figure."""


def main(argv):
    commands.refuse_arguments(argv)
    from tfobj.training import run_folder

    experiment = run_folder.check_run(_WORKDIR.value, _CHECKPOINT.value)
    commands.load_tensorflow(experiment.model_name)
    from tfobj.training import generation
    from tfobj.training.checkpoint import load_run
    from tfobj.training.workdir import write_evaluation

    run = load_run(_WORKDIR.value, _CHECKPOINT.value)
    generation.check_prior(run.model, run.experiment.model_name)
    seed = generation.SAMPLING_SEED if _SEED.value is None else _SEED.value
    features, pictures, comparison = compare(run, seed)

    suffix = ""
    if _PER_OBJECT.value:
        suffix += "_objects"
    if _SPLIT.value != "test_large":
        suffix += f"_{_SPLIT.value}"
    out = pathlib.Path(_OUT.value or _WORKDIR.value)
    path = out / f"generation{suffix}.json"
    figure = out / "figures" / f"samples{suffix}.png"
    facts = {
        "model": run.experiment.model_name,
        "preset": run.experiment.preset,
        "protocol": pictures.description,
        "split": _SPLIT.value,
        "step": run.step,
        "checkpoint": _CHECKPOINT.value,
        "seed": run.experiment.seed,
        "sampling_seed": seed,
        "num_samples": comparison.num_samples,
        "features": features.name,
        "features_description": features.description,
        "config_fingerprint": run.experiment.fingerprint(),
    }
    write_evaluation(path, comparison.summary, **facts)
    draw_samples(figure, comparison, f"{run.experiment.model_name}, step {run.step:,}")
    print_table(facts, comparison.summary)
    print(f"\nWritten: {path}, {figure}")
    return 0


def compare(run, seed):
    """Returns (features, held-out pictures, comparison) of a run's samples."""
    from tfobj.metrics.generation_features import make_features
    from tfobj.training import generation
    from tfobj.training.experiment import open_scenes

    experiment = run.experiment
    features = make_features(_FEATURES.value, experiment.model.channels, _INCEPTION_WEIGHTS.value)
    batch_size = min(_BATCH_SIZE.value, _NUM_SAMPLES.value)
    sample = generation.sampled_scenes
    if _PER_OBJECT.value:
        sample = generation.sampled_objects
    samples = sample(run.model, batch_size, seed)

    scenes, protocol = open_scenes(experiment, _SPLIT.value, _DATA_DIR.value)
    scenes = scenes.frames()
    if _PER_OBJECT.value:
        pictures = generation.held_out_objects(
            experiment.data, _SPLIT.value, scenes, 2 * _NUM_SAMPLES.value
        )
    else:
        pictures = generation.held_out_scenes(scenes, protocol)

    comparison = generation.compare_with_samples(
        samples,
        pictures,
        features,
        _NUM_SAMPLES.value,
        batch_size=batch_size,
        num_shown=ROWS * COLUMNS,
        extrapolate=_EXTRAPOLATE.value,
        progress=True,
    )
    return features, pictures, comparison


def draw_samples(path, comparison, title):
    """Draws samples beside held-out images, the first ones of both."""
    import numpy as np

    from tfobj.viz import canvas

    images = comparison.samples
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    grid = canvas.Grid(rows, 2 * columns, images.shape[1:3], title=title, breaks=(columns,))
    for first, name, group in (
        (0, "samples", images),
        (columns, "held-out images", comparison.images),
    ):
        grid.text(grid.x(first), grid.y(0) - 16, name)
        for i, image in enumerate(group):
            grid.picture(i // columns, first + i % columns, image.astype(np.float32) / 255.0)
    canvas.save_figure(grid.figure, path)


def print_table(facts, summary):
    """Prints facts, then the statistics."""
    for name in ("model", "protocol", "step", "num_samples"):
        print(f"{name:<16}{facts[name]}")
    print(f"{'features':<16}{facts['features_description']}\n")
    for name, value in summary.items():
        if name.endswith("_std") and math.isnan(value):
            print(f"{name:<32}{'–':>12}   so few samples make a single subset")
        else:
            print(f"{name:<32}{value:>12.5g}")
    if facts["num_samples"] < _NUM_SAMPLES.value:
        print(
            f"\nThe split has {facts['num_samples']} images, so as many samples were drawn: "
            "both sets must be equally large."
        )


if __name__ == "__main__":
    commands.run(main)
