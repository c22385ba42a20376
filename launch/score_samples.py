"""Compares what a trained model draws from its prior with held-out images: statistics, JSON and a picture of samples.

    python launch/score_samples.py --workdir=runs/genesis_tetris
    python launch/score_samples.py --workdir=runs/factored_scenes_polygons --num_samples=10000 --per_object
    python launch/score_samples.py --workdir=runs/vae_tetris --features=inception --inception_weights=classify_image_graph_def.pb

Two statistics, smaller is better, of features of N samples and N held-out images (of the run's protocol, --split):

    frechet_<features>, mmd_<features>      Frechet distance, squared MMD with a cubic kernel (its mean over subsets of 1,000, _std, and x 100)
    ..._floor                               of N other held-out images: what a perfect model would score with this N
    ..._extrapolated                        with --extrapolate: at infinitely many samples, from a line over 1 / N

They are called fid and kid on the features of the 2015 Inception graph, whose weights you supply, and on these alone. The features that
need no file, random_conv and pixels, order models of one dataset, but compare with no paper. The Frechet distance falls with N:
compare at equal N. With --per_object single objects are compared (factored_scenes): samples decoded with one object and the background,
held-out scenes drawn again with one object.

Files, in the run's folder (or --out): generation.json and figures/samples.png; with --per_object generation_objects.json and
figures/samples_objects.png. Other splits than test_large get their name in the file names.
"""

import pathlib
import sys

if not __package__:  # `python launch/score_samples.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "latest",
    ["latest", "best"],
    "Which state: the last one, or the best on validation.",
)
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
_SPLIT = flags.DEFINE_string("split", "test_large", "Split of the run's protocol to compare with.")
_PER_OBJECT = flags.DEFINE_bool("per_object", False, "Compare single objects instead of scenes.")
_EXTRAPOLATE = flags.DEFINE_bool(
    "extrapolate", False, "Also extrapolate the Frechet distance to infinitely many samples."
)
_SEED = flags.DEFINE_integer("seed", None, "Seed of the samples; default: the same for every run.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Images per call; does not change the samples.", lower_bound=1
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data folder.")
_OUT = flags.DEFINE_string("out", None, "Folder of the results; default: the run's.")
_ROWS, _COLUMNS = 6, 8


def main(argv):
    commands.refuse_arguments(argv)
    commands.load_tensorflow()
    from tfobj.metrics.generation_features import make_features
    from tfobj.training import generation
    from tfobj.training.checkpoint import load_run
    from tfobj.training.experiment import open_scenes
    from tfobj.training.workdir import write_evaluation

    run = load_run(_WORKDIR.value, _CHECKPOINT.value)
    model, experiment = run.model, run.experiment
    generation.check_prior(model, experiment.model_name)
    features = make_features(_FEATURES.value, experiment.model.channels, _INCEPTION_WEIGHTS.value)
    seed = generation.SAMPLING_SEED if _SEED.value is None else _SEED.value
    draw = generation.sampled_objects if _PER_OBJECT.value else generation.sampled_scenes
    batch_size = min(_BATCH_SIZE.value, _NUM_SAMPLES.value)
    samples = draw(model, batch_size, seed)
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
        num_shown=_ROWS * _COLUMNS,
        extrapolate=_EXTRAPOLATE.value,
        progress=True,
    )
    facts = {
        "model": experiment.model_name,
        "preset": experiment.preset,
        "protocol": pictures.description,
        "split": _SPLIT.value,
        "step": run.step,
        "checkpoint": _CHECKPOINT.value,
        "seed": experiment.seed,
        "sampling_seed": seed,
        "num_samples": comparison.num_samples,
        "features": features.name,
        "features_description": features.description,
        "config_fingerprint": experiment.fingerprint(),
    }
    suffix = ("_objects" if _PER_OBJECT.value else "") + (
        "" if _SPLIT.value == "test_large" else f"_{_SPLIT.value}"
    )
    out = pathlib.Path(_OUT.value or _WORKDIR.value)
    path, figure = out / f"generation{suffix}.json", out / "figures" / f"samples{suffix}.png"
    write_evaluation(path, comparison.summary, **facts)
    draw_samples(figure, comparison, f"{experiment.model_name}, step {run.step:,}")
    print_table(facts, comparison.summary)
    print(f"\nWritten: {path}, {figure}")
    return 0


def draw_samples(path, comparison, title):
    """Draws samples beside held-out images, the first ones of both."""
    import numpy as np

    from tfobj.viz import canvas

    images = comparison.samples
    columns = min(_COLUMNS, len(images))
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
        print(f"{name:<32}{value:>12.5g}")
    if facts["num_samples"] < _NUM_SAMPLES.value:
        print(
            f"\nThe split has {facts['num_samples']} images, so that many samples were drawn: both sets must be equally large."
        )


if __name__ == "__main__":
    commands.run(main)
