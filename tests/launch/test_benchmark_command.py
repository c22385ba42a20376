"""launch/benchmark.py: a table, a JSON file, one-line errors."""

import json
import pathlib

import command
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    "model.encoder_channels=4",
    "model.encoder_kernels=3",
    "model.decoder_channels=4",
    "model.decoder_kernels=3",
    "model.slot_size=4",
    "model.num_steps=1",
    "train.batch_size=2",
    "data.num_train=8",
    "data.num_test=2",
]


def benchmark(*arguments, cwd):
    """Runs the command in this process."""
    return command.run("benchmark", *arguments, cwd=cwd)


def test_table_and_file(tmp_path):
    process = command.run_process(
        "benchmark",
        *[f"--set={setting}" for setting in SMALL],
        "--what=inference",
        "--seconds=0.05",
        "--blocks=1",
        "--strategy=cpu",
        "--json=report.json",
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["command"].startswith("python launch/benchmark.py --set=model.encoder_channels=4")
    (row,) = report["rows"]
    assert {
        "model",
        "dataset",
        "preset",
        "what",
        "batch_size",
        "precision",
        "ms_per_step",
        "images_per_second",
        "peak_memory_mb",
        "gflop_per_step",
        "fraction_of_conv_peak",
    } <= set(row)
    header, line = process.stdout.splitlines()[:2]
    assert header.split()[:4] == ["model", "what", "batch", "precision"] and line.split()[:4] == [
        "slot_attention",
        "inference",
        "2",
        "float32",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"report.json"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--what=training"], "Unknown measurement 'training'. Did you mean 'train'?"),
        (["--block=3"], "Unknown flag 'block'. Did you mean 'blocks'?"),
        (["--blocks=0"], "`blocks` must be at least 1."),
        (["--also=train.precision"], "`--set` expects name=value"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    process = benchmark(*arguments, cwd=tmp_path)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert (
        process.returncode == 2 and len(errors) == 1 and errors[0].startswith(f"error: {message}")
    ), process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--what=serve,train"], "`--what=serve` must go alone"),
        (["--saved_model=slot_attention_tetris"], "`--saved_model` must go with --what=serve"),
        (["--what=serve", "--saved_model=video_decomposition_balls"], "must be a model of images"),
    ],
)
def test_serving_is_measured_alone(arguments, message, tmp_path):
    process = benchmark(*arguments, cwd=tmp_path)
    assert process.returncode == 2
    assert message in process.stderr
