"""launch/check_engines.py: the table, the file, the exit status, one-line errors."""

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
    "train.batch_size=4",
    "data.num_train=16",
    "data.num_test=2",
]


def check_engines(*arguments, cwd):
    """Runs the command in this process."""
    return command.run("check_engines", *arguments, cwd=cwd)


@pytest.mark.slow
def test_table_and_file(tmp_path):
    process = command.run_process(
        "check_engines",
        *[f"--set={setting}" for setting in SMALL],
        "--steps=3",
        "--also_xla",
        "--json=engines.json",
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    assert (
        "All engines make the same run." in process.stdout
        and "train.clip_norm is set to 0.1" in process.stdout
    )
    report = json.loads((tmp_path / "engines.json").read_text())
    assert [(row["engine"], row["xla"], row["num_replicas"]) for row in report["rows"]] == [
        (name, xla, replicas)
        for xla in (False, True)
        for name, replicas in (("one device", 1), ("two replicas", 2), ("two workers", 2))
    ]
    for row in report["rows"]:
        assert (
            row["equal"]
            and row["replicas_identical"]
            and row["difference"] <= 0.02 * row["moved"]
            and row["clipped"] == 1.0
        )
    assert {path.name for path in tmp_path.iterdir()} == {"engines.json"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps=1"], "`steps` must be at least 2. Received: steps=1."),
        (["--set=train.batch_size=3"], "`train.batch_size` must be even"),
        (["--tolerance=-1"], "`tolerance` must be at least 0."),
        (["--also_xl"], "Unknown flag 'also_xl'. Did you mean 'also_xla'?"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    process = check_engines(*arguments, cwd=tmp_path)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert (
        process.returncode == 2 and len(errors) == 1 and errors[0].startswith(f"error: {message}")
    ), process.stderr
