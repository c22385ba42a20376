"""launch/list.py: complete, quick, and narrow enough to read."""

import pathlib
import re
import subprocess
import sys

import command
import pytest

from tfobj import files, registry
from tfobj.data import protocols
from tfobj.training import catalogue, results
from tfobj.training.experiment import resolve

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments):
    """Runs the command in this process."""
    return command.run("list", *arguments, cwd=ROOT)


def test_everything_is_listed():
    process = run()
    assert process.returncode == 0, process.stderr
    for name in (*registry.MODELS, "folder:PATH", "Shipped models"):
        assert name in process.stdout
    for (
        name
    ) in protocols.PROTOCOLS:  # a protocol on the published file stands beside its generated twin
        twin = name.removesuffix("_public")
        assert name in process.stdout or f"{twin}, ..._public" in process.stdout, name
    assert max(map(len, process.stdout.splitlines())) <= 100


def test_the_list_needs_no_tensorflow():
    """As a user starts it: a process of its own."""
    code = (
        "import sys; sys.argv = ['list.py']; import tfobj.launch.list as command; "
        "from absl import flags; flags.FLAGS(sys.argv); "
        "command.main(sys.argv); assert 'tensorflow' not in sys.modules"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=300
    )
    assert process.returncode == 0, process.stderr


def test_settings_of_a_model():
    process = run("--model=iodine", "--dataset=multi_dsprites", "--preset=release")
    assert process.returncode == 0, process.stderr
    assert "model.num_slots=6 " in process.stdout and "model.likelihood=logistic" in process.stdout
    assert "R, refinement steps." in process.stdout


@pytest.mark.parametrize("model", registry.MODELS)
def test_every_model_has_a_data_set_of_its_own(model):
    """--model alone, also where the model has no preset for tetris."""
    process = run(f"--model={model}")
    assert process.returncode == 0, process.stderr
    datasets = [dataset for preset, dataset in registry.model_presets(model) if preset == "paper"]
    chosen = "tetris" if "tetris" in datasets else datasets[0]
    assert f"--model={model} --dataset={chosen} --preset=paper`" in process.stdout
    assert "1 seeds" not in process.stdout and "integerss" not in process.stdout


def test_a_preset_alone_finds_its_data_set():
    process = run("--model=genesis", "--preset=genesis_v2")
    assert "--dataset=multi_dsprites --preset=genesis_v2`" in process.stdout
    assert "Takes days on one GPU." in " ".join(process.stdout.split())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model=rnem", "--preset=papper"], "Unknown preset for rnem on bouncing_balls 'papper'"),
        (["--model=iodin"], "Unknown model 'iodin'. Did you mean 'iodine'?"),
        (["--modle=iodine"], "Unknown flag 'modle'. Did you mean 'model'?"),
        (["iodine"], "Unexpected argument 'iodine'"),
        (["--model"], "Missing value for flag --model"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    process = run(*arguments)
    assert process.returncode == 2
    assert [
        line.startswith(f"error: {message}")
        for line in process.stderr.splitlines()
        if line.startswith("error:")
    ] == [True]


@pytest.mark.parametrize("model", registry.MODELS)
def test_durations_agree_with_recorded_runs(model):
    """Each recorded preset says "about N minutes on one CPU core", or on two, N within a fifth."""
    durations = catalogue.preset_durations(model)
    for key, measured in results.of_presets(model).items():
        minutes, cores = re.fullmatch(
            r"about (\d+) minutes on (one|two) CPU cores?", durations[key]
        ).groups()
        assert abs(int(minutes) - measured.minutes) <= 0.2 * measured.minutes, key
        assert measured.hardware.startswith({"one": "1 core ", "two": "2 cores "}[cores])


@pytest.mark.parametrize("model", registry.MODELS)
def test_printed_values_can_be_set(model):
    """Each printed name=value, given to --set, gives the configuration it was printed from."""
    experiment = resolve(
        model,
        next(dataset for preset, dataset in registry.model_presets(model) if preset == "paper"),
    )
    printed = {
        s.name: s.value
        for group in ("model", "train", "eval")
        for s in catalogue.settings(getattr(experiment, group), group + ".")
    }
    assert experiment.override(printed) == experiment


@pytest.mark.parametrize("model", registry.MODELS)
def test_settings_of_every_scene_are_explained(model):
    config = registry.model_class(model).config_class()
    texts = {setting.name: setting.text for setting in catalogue.settings(config)}
    for name in ("image_size", "channels", "num_slots", "num_steps"):
        assert texts[name].endswith(".")


def test_kinds_are_english():
    experiment = resolve("slot_attention", "tetris")
    kinds = {
        setting.name: setting.kind
        for group in ("model", "train", "eval")
        for setting in catalogue.settings(getattr(experiment, group))
    }
    assert kinds["image_size"] == "two integers, each at least 1"
    assert kinds["encoder_channels"] == "integers, each at least 1"
    assert kinds["token_hidden"] == "integer at least 0, or none"
    assert kinds["steps"] == "integer at least 1"
    assert kinds["adam_beta_1"] == "number in [0, 1)"


def test_texts_come_from_below_the_fields():
    settings = {
        setting.name: setting for setting in catalogue.settings(resolve("iodine", "tetris").train)
    }
    assert settings["batch_size"].text == "Scenes per update, over all replicas."
    assert (
        settings["clip_norm"].kind == "positive number or none"
        and settings["precision"].kind == "auto | float32 | bfloat16"
    )


def test_a_damaged_index_of_models_is_named(tmp_path, monkeypatch):
    shipped = files.shipped
    monkeypatch.setattr(
        files, "shipped", lambda name: tmp_path if name == "saved_models" else shipped(name)
    )
    (tmp_path / "index.json").write_text('{"model": []}')
    command.assert_mistake(run(), "`model` must be an object. Received: []")
