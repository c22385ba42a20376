"""What commands answer before TensorFlow is loaded, and how they load it."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import command
import pytest

from tfobj import lean_import, registry
from tfobj.training import run_folder
from tfobj.training.experiment import resolve

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMANDS = sorted(path.stem for path in (ROOT / "launch").glob("*.py"))
COMMANDS = [name for name in COMMANDS if name not in ("__init__", "shared_flags", "run_step")]
"""`run_step` has argparse, and no TensorFlow at all."""

MODEL = "Unknown model 'iodin'. Did you mean 'iodine'?"
PRESET = "Unknown preset for slot_attention on tetris 'quik'. Did you mean 'quick'?"
STRATEGY = "Unknown strategy 'gpus'. Did you mean 'gpu'?"
NO_RUN = "`--workdir` must be the folder of a run. Received: nowhere, which has no config.json."
NO_STATE = "`run` has no latest checkpoint yet."
SAVED_MODEL = "Unknown saved model 'slot_atention_tetris'. Did you mean 'slot_attention_tetris'?"

REFUSALS = [
    ("train", ["--model=iodin"], MODEL),
    ("train", ["--dataset=tertis"], "Unknown dataset 'tertis'. Did you mean 'tetris'?"),
    ("train", ["--preset=quik"], PRESET),
    ("train", ["--set=train.batchsize=4"], "Did you mean 'train.batch_size'?"),
    ("train", ["--set=train.batch_size=x"], "`train.batch_size` must be an integer."),
    ("train", ["--set=model.num_slot=3"], "Did you mean 'model.num_slots'?"),
    ("train", ["--set=model.num_slots=1"], "`num_slots` must be at least 2."),
    ("train", ["--model=vae", "--set=model.architecture=conv"], "multiples of 16"),
    ("train", ["--model=iodine", "--set=model.inputs.layer_norm=mean"], "refinement input"),
    ("train", ["--model=genesis", "--set=model.geco_goal=-9"], "`model.geco_goal` must be"),
    ("train", ["--strategy=gpus"], STRATEGY),
    ("train", ["--workdir=run", "--seed=1"], "`run` holds a run with other settings: seed"),
    ("train", ["--init_from=run"], NO_STATE),
    ("train", ["--set=train.step=1", "--init_from=nowhere"], "Did you mean 'train.steps'?"),
    ("list", ["--model=iodin"], MODEL),
    ("list", ["--model=slot_attention", "--preset=quik"], PRESET),
    ("evaluate", ["--workdir=nowhere"], NO_RUN),
    ("evaluate", ["--workdir=run"], NO_STATE),
    ("export", ["--workdir=nowhere"], NO_RUN),
    ("score_samples", ["--workdir=nowhere"], NO_RUN),
    ("propose_target", ["--workdir=nowhere"], NO_RUN),
    ("propose_target", ["--model=iodin"], MODEL),
    ("edit", ["--workdir=nowhere"], NO_RUN),
    ("edit", ["--saved_model=slot_atention_tetris", "picture.png"], SAVED_MODEL),
    ("decompose", ["--saved_model=slot_atention_tetris", "picture.png"], SAVED_MODEL),
    ("decompose", ["--saved_model=run", "picture.png"], NO_STATE),
    ("show", ["--dataset=tertis"], "Unknown dataset 'tertis'. Did you mean 'tetris'?"),
    (
        "show",
        ["--dataset=tetris", "--split=tset"],
        "Unknown split of protocol 'tetris' 'tset'. Did you mean 'test'?",
    ),
    ("benchmark", ["--model=iodin"], MODEL),
    ("benchmark", ["--strategy=gpus"], STRATEGY),
    ("check_engines", ["--model=iodin"], MODEL),
    ("export_step", ["--model=iodin", "--to=out"], MODEL),
    ("export_step", ["--workdir=nowhere", "--to=out"], NO_RUN),
    ("import_state", ["--state=nowhere", "--workdir=new"], "nowhere"),
]
ANSWERS = [
    ("list", []),
    *[("list", [f"--model={model}"]) for model in registry.MODELS],
    *[(name, ["--help"]) for name in COMMANDS],
    ("train", ["--model=iodine", "--print_config"]),
]


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Returns what every case of `REFUSALS` and `ANSWERS` led to, by (command, *arguments)."""
    folder = tmp_path_factory.mktemp("startup")
    (folder / "picture.png").touch()
    (folder / "run").mkdir()
    run_folder.write_or_check_config(folder / "run", resolve("slot_attention", "tetris"))

    cases = [(name, arguments) for name, arguments, *_ in [*REFUSALS, *ANSWERS]]
    finished = subprocess.run(
        [sys.executable, pathlib.Path(__file__).with_name("without_tensorflow.py")],
        input=json.dumps(cases),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    answers = json.loads(finished.stdout)
    return {(c[0], *c[1]): answer for c, answer in zip(cases, answers, strict=True)}


@pytest.mark.parametrize("name, arguments, message", REFUSALS)
def test_mistakes_are_answered_without_tensorflow(answered, name, arguments, message):
    *finished, loaded = answered[(name, *arguments)]
    command.assert_mistake(command.Finished(*finished), message)
    assert loaded == []


@pytest.mark.parametrize("name, arguments", ANSWERS)
def test_lists_and_help_need_no_tensorflow(answered, name, arguments):
    status, stdout, stderr, loaded = answered[(name, *arguments)]
    assert status == 0 and stdout, stderr
    assert loaded == []


def test_a_run_is_not_refused_for_what_its_precision_became(tmp_path):
    run = resolve("slot_attention", "tetris", overrides={"train.precision": "bfloat16"})
    run_folder.write_or_check_config(tmp_path, run)

    again = resolve("slot_attention", "tetris", overrides={"train.precision": "auto"})
    kept = run_folder.with_precision_of_run(tmp_path, again)
    assert kept == run
    run_folder.check_config(tmp_path, kept)
    assert run_folder.with_precision_of_run(tmp_path / "new", again) == again


def run_python(program):
    """Runs a program in a process of its own; returns what it printed."""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_settings_and_presets_of_all_models_need_no_tensorflow():
    printed = run_python(
        "import sys\n"
        "from tfobj import registry\n"
        "from tfobj.training.experiment import ExperimentConfig, resolve\n"
        "count = 0\n"
        "for model in registry.MODELS:\n"
        "    for preset, dataset in registry.model_presets(model):\n"
        "        experiment = resolve(model, dataset, preset, needs_data=False)\n"
        "        experiment.model.warnings()\n"
        "        assert type(experiment.model) is registry.model_config(model)\n"
        "        assert ExperimentConfig.from_dict(experiment.to_dict()) == experiment\n"
        "        count += 1\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_probability', 'matplotlib'}\n"
        "print(count, sorted(heavy & set(sys.modules)))"
    )
    expected = sum(len(registry.model_presets(model)) for model in registry.MODELS)
    assert printed.split(maxsplit=1) == [str(expected), "[]\n"]


def test_commands_load_tensorflow_without_what_it_merely_finds():
    """The packages can be imported afterwards, and the garbage collector works."""
    printed = run_python(
        "import gc, importlib.util, sys\n"
        "from tfobj import commands, lean_import\n"
        "before = gc.isenabled()\n"
        "commands.load_tensorflow('iodine')\n"
        "assert {'tensorflow', 'keras', 'tfobj.models.iodine.model'} <= set(sys.modules)\n"
        "assert not set(lean_import.UNUSED) & set(sys.modules)\n"
        "assert before and gc.isenabled()\n"
        "import matplotlib.figure\n"
        "print(importlib.util.find_spec('sklearn') is not None)"
    )
    assert printed == "True\n"


def test_packages_are_hidden_only_inside_and_only_if_they_are_not_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with lean_import.hidden(("this", "json")):
        with pytest.raises(ImportError):
            importlib.import_module("this")
        assert importlib.import_module("json") is json
    assert "this" not in sys.modules and sys.modules["json"] is json
