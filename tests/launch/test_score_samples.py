"""`launch/score_samples.py` on small runs: files, statistics, single objects, and errors."""

import json
import pathlib
import subprocess
import sys

import command
import numpy as np
import pytest

from tfobj import registry
from tfobj.data import protocols
from tfobj.training import checkpoint, experiment, optimizer, run_folder
from tfobj.training.workdir import locked

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL_DATA = {"data.num_train": 8, "data.num_test": 24}
TINY = {
    "vae": {
        "model.latent_size": 4,
        "model.encoder_channels": (6, 6),
        "model.encoder_mlp": (8,),
        "model.decoder_channels": (6, 6),
        "model.kernel_size": 3,
    },
    "slot_attention": {
        "model.slot_size": 8,
        "model.encoder_channels": (8,),
        "model.encoder_kernels": (3,),
        "model.decoder_channels": (8,),
        "model.decoder_kernels": (3, 3),
    },
    "factored_scenes": {
        "model.canvas_size": 16,
        "model.position_channels": (4, 4, 4),
        "model.encoder_channels": (4, 4, 4),
        "model.background_encoder_channels": (4, 4),
        "model.background_encoder_hidden": 8,
        "model.decoder_hidden": 8,
        "model.decoder_filters": (4, 4, 4, 4),
        "model.scene_units": 8,
        "model.scene_filters": (4, 4, 4, 4),
    },
}


def make_run(folder, model, dataset):
    """Writes a run that stopped after its third step, with the weights that it began with."""
    size = protocols.get(dataset).image_size
    chosen = experiment.ExperimentConfig(
        model_name=model,
        data=experiment.DataConfig(protocol=dataset),
        model=registry.model_class(model)
        .config_class()
        .override({"image_size": size[:2], "channels": size[2]}),
    )
    chosen = chosen.override({**TINY[model], **SMALL_DATA})
    built = experiment.build_model(chosen)
    with locked(folder):
        run_folder.write_or_check_config(folder, chosen)
        adam = optimizer.make_optimizer(chosen.train)
        adam.build(built.trainable_variables)
        adam.iterations.assign(3)
        checkpoint.RunState(folder, built, adam, keep=1).save()


MISTAKES = [
    (
        "slots",
        {},
        "`--workdir` must be of a model with a prior, from which scenes can be drawn. "
        "Received: slot_attention",
    ),
    (
        "vae",
        {"per_object": True},
        "`--per_object` must be of a model that has a slot for each object ",
    ),
    ("vae", {"features": "inception"}, "`inception_weights` must be the 2015 Inception graph: "),
    ("vae", {"features": "inception", "inception_weights": "nowhere.pb"}, "Received: nowhere.pb."),
    ("vae", {"split": "tset"}, "Did you mean 'test'"),
    ("vae", {"checkpoint": "best"}, "has no best checkpoint"),
    ("nowhere", {}, "no config.json"),
]
CALLS = {
    "scenes": ("vae", {}),
    "batch_of_3": ("vae", {"features": "pixels", "batch_size": 3, "out": "out0"}),
    "batch_of_10": ("vae", {"features": "pixels", "batch_size": 10, "out": "out1"}),
    "another_seed": ("vae", {"features": "pixels", "seed": 1, "out": "out2"}),
    "few_images": (
        "vae",
        {"split": "test", "num_samples": 1000, "features": "pixels", "extrapolate": True},
    ),
    **{f"mistake{i}": call for i, (*call, _) in enumerate(MISTAKES)},
}


def run_calls(folder, calls):
    """Returns name -> (exit status, output and errors) of calls, name -> (run, flags)."""
    said = {}
    for name, (run, more) in calls.items():
        settings = {"data_dir": "data", "num_samples": 10, "workdir": run, **more}
        arguments = [f"--{flag}={value}" for flag, value in settings.items() if value is not None]
        finished = command.run("score_samples", *arguments, cwd=folder)
        said[name] = finished.returncode, finished.stdout + finished.stderr
    return said


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Folder of the runs, and what the calls said."""
    folder = tmp_path_factory.mktemp("project")
    make_run(folder / "vae", "vae", "tetris")
    make_run(folder / "slots", "slot_attention", "tetris")
    return folder, run_calls(folder, CALLS)


def test_writes_statistics_and_a_picture(project):
    folder, said = project
    status, printed = said["scenes"]
    assert status == 0, printed
    result = read(folder / "vae" / "generation.json")
    assert (
        result["protocol"].startswith("tetris_8_24/test_large: scenes 0-23")
        and result["protocol"] in printed
    )
    assert (result["model"], result["step"], result["num_samples"], result["features"]) == (
        "vae",
        3,
        10,
        "random_conv",
    )
    assert "not FID" in result["features_description"] and result["features_description"] in printed
    for name in (
        "frechet_random_conv",
        "mmd_random_conv",
        "frechet_random_conv_floor",
        "mmd_random_conv_floor",
    ):
        assert np.isfinite(result[name]) and name in printed
    # Samples of weights that saw no scene are further away than scenes are from each other.
    assert result["frechet_random_conv"] > 2 * result["frechet_random_conv_floor"]
    assert not any(name.startswith(("fid", "kid")) for name in result)
    assert result["mmd_random_conv_std"] is None  # one subset
    picture = (folder / "vae" / "figures" / "samples.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000


def test_samples_do_not_depend_on_the_batch_size_but_on_the_seed(project):
    folder, _ = project
    by_3, by_10, another = (
        read(folder / f"out{i}" / "generation.json")["frechet_pixels"] for i in range(3)
    )
    assert by_3 == pytest.approx(by_10, rel=1e-6) and another != by_10


def test_fewer_held_out_images_than_samples(project):
    folder, said = project
    result = read(folder / "vae" / "generation_test.json")
    assert (
        result["num_samples"] == 24
        and "frechet_pixels_floor" not in result
        and "frechet_pixels_extrapolated" in result
    )
    assert "The split has 24 images, so as many samples were drawn" in said["few_images"][1]
    assert (folder / "vae" / "figures" / "samples_test.png").exists()


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_are_named(project, number):
    status, said = project[1][f"mistake{number}"]
    assert status == 2
    (error,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert MISTAKES[number][-1] in error


@pytest.mark.slow
def test_single_objects(tmp_path):
    make_run(tmp_path / "run", "factored_scenes", "overlapping_polygons")
    said = run_calls(
        tmp_path,
        {
            "objects": ("run", {"num_samples": 6, "per_object": True}),
            "scenes": ("run", {"num_samples": 6}),
        },
    )
    assert said["objects"][0] == said["scenes"][0] == 0
    result = read(tmp_path / "run" / "generation_objects.json")
    assert (
        result["protocol"].startswith("single objects of overlapping_polygons_8_24/test_large")
        and result["num_samples"] == 6
    )
    assert (
        result["frechet_random_conv"]
        != read(tmp_path / "run" / "generation.json")["frechet_random_conv"]
    )
    assert (tmp_path / "run" / "figures" / "samples_objects.png").exists()


def test_command_line(tmp_path):
    process = subprocess.run(
        [
            sys.executable,
            str(ROOT / "launch" / "score_samples.py"),
            "--workdir=run",
            "--feature=pixels",
        ],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert process.returncode == 2
    assert (
        process.stderr.startswith("error: Unknown flag 'feature'. Did you mean 'features'?")
        and len(process.stderr.splitlines()) == 1
    )
