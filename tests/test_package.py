"""The package as it is installed: what a wheel holds, and what the program `tfobj` does."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

import tfobj
from tfobj import commands, files

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Returns a folder with the content of a wheel, as in site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: what an earlier build has left in the checkout would get into the wheel.
    source = folder / "source"
    for name in ("tfobj", "datasets", "launch", "results", "saved_models"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)

    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*build, "--quiet", "--wheel-dir", folder, source], check=True, capture_output=True
    )
    (wheel,) = folder.glob("tfobj-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def python(*arguments, path, cwd):
    """Runs Python with `path` before its own libraries."""
    finished = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_wheel_lists_what_the_checkout_lists(installed, tmp_path):
    """Commands, READMEs of data sets, recorded runs and shipped models are inside."""
    listed = python("-m", "tfobj", "list", path=installed, cwd=tmp_path)
    assert listed == python("-m", "tfobj", "list", path=ROOT, cwd=tmp_path)
    assert "slot_attention_tetris" in listed and "Recorded: foreground ARI" in listed


def test_the_wheel_holds_the_shipped_models_completely(installed):
    shipped = ROOT / "saved_models"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "saved_models"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\0")
    names = [name for name in tracked if name] or [
        path.relative_to(ROOT).as_posix() for path in shipped.rglob("*") if path.is_file()
    ]
    assert any(name.endswith("saved_model.pb") for name in names)
    for name in names:
        assert (installed / "tfobj" / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_a_clone_called_tfobj_can_be_imported_from_the_folder_above(tmp_path):
    """Python takes the clone itself for the package there."""
    (tmp_path / "tfobj").symlink_to(ROOT)
    program = (
        "import tfobj, tfobj.files; from tfobj.datasets.generators import tetris; "
        "print(tfobj.__version__, tfobj.files.shipped('saved_models').is_dir(), tetris.__name__)"
    )
    printed = python("-c", program, path=tmp_path, cwd=tmp_path)
    assert printed.split() == [tfobj.__version__, "True", "tfobj.datasets.generators.tetris"]


def test_tfds_knows_the_builders_after_the_import():
    import tensorflow_datasets as tfds

    import tfobj.datasets  # noqa: F401 (the import is what is tested)

    assert tfds.builder_cls("tetris").__module__.startswith("tfobj.datasets.tetris")
    assert tfds.builder("bouncing_balls", data_dir="unused").name == "bouncing_balls"
    with pytest.raises(tfds.core.registered.DatasetNotFoundError):
        tfds.builder_cls("tetriss")


def test_every_public_name_can_be_completed_and_imported():
    assert {"load", "load_run", "resolve", "build_model", "metrics", "models", "datasets"} < set(
        dir(tfobj)
    )
    for name in dir(tfobj):
        assert getattr(tfobj, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        tfobj.laod  # noqa: B018


@pytest.mark.parametrize(
    "name, class_name",
    [
        ("SlotAttention", "SlotAttentionAutoencoder"),
        ("IODINE", "Iodine"),
        ("EfficientMORL", "EfficientMORL"),
        ("MONet", "Monet"),
    ],
)
def test_models_are_found_by_the_names_of_their_papers(name, class_name):
    assert getattr(tfobj.models, name).__name__ == class_name
    assert class_name in dir(tfobj.models)


def test_unknown_models_are_told_the_known_ones():
    with pytest.raises(AttributeError, match="'Iodin'; models: .*Iodine"):
        tfobj.models.Iodin  # noqa: B018


@pytest.mark.parametrize("words", [[], ["help"], ["--help"]])
def test_the_program_lists_its_commands(words, capsys):
    assert commands.main(words) == 0
    printed = capsys.readouterr().out
    for path in (ROOT / "launch").glob("[a-z]*.py"):
        assert (f"\n  {path.stem} " in printed) == (path.stem != "shared_flags")


@pytest.mark.parametrize("word, nearest", [("trian", "train"), ("decompos", "decompose")])
def test_a_misspelt_command_is_refused_with_the_nearest(word, nearest, capsys):
    assert commands.main([word]) == commands.MISTAKE
    error = capsys.readouterr().err
    assert f"Unknown command {word!r}. Did you mean {nearest!r}?" in error
    assert error.count("\n") == 1


def test_help_of_a_subcommand_speaks_of_the_program(tmp_path):
    text = python("-m", "tfobj", "help", "export-step", path=ROOT, cwd=tmp_path)
    assert "tfobj export_step --model" in text and "`tfobj list`" in text
    assert "python launch/" not in text


def test_files_that_ship_are_beside_or_inside_the_package():
    assert files.shipped("saved_models") == ROOT / "saved_models"
    assert not files.shipped("no such folder").exists()
