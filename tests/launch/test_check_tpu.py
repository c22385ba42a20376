"""launch/check_tpu.py from the command line: one-line errors, and with libtpu the whole of it."""

import importlib.util
import json
import pathlib

import command
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBTPU = all(importlib.util.find_spec(name) for name in ("jax", "libtpu"))


def run(*arguments):
    """Runs the command in this process."""
    return command.run("check_tpu", *arguments, cwd=ROOT)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Give one of `--model`, `--all_presets` and `--write_docs`"),
        (["--model=iodine", "--all_presets"], "Give one of `--model`"),
        (["--model=iodine", "--topology=v5x:2x2"], "Unknown TPU 'v5x'. Did you mean 'v5"),
        (["--model=iodine", "--topology=v5e:4"], "`--topology` of v5e must be 2 sizes"),
        (["--modle=iodine"], "Unknown flag 'modle'. Did you mean 'model'?"),
        (["--model=iodine", "--set", "train.batch_size"], "`--set` expects name=value"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    process = run(*arguments)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert (
        process.returncode == 2 and len(errors) == 1 and errors[0].startswith(f"error: {message}")
    ), process.stderr


def test_check_of_the_docs_needs_no_tensorflow(tmp_path):
    assert run("--write_docs", "--check").stdout == "docs/tpu.md is up to date.\n"
    assert (
        "has no files of checks" in run("--write_docs", "--check", f"--json_dir={tmp_path}").stderr
    )
    kept = json.loads(next((ROOT / "results" / "tpu").glob("*.json")).read_text())
    (tmp_path / "one.json").write_text(json.dumps({**kept, "model": "other"}))
    process = run("--write_docs", "--check", f"--json_dir={tmp_path}")
    assert process.returncode == 2 and "error: tpu.md is not up to date" in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(not LIBTPU, reason="needs jax and libtpu")
def test_whole_command(tmp_path):
    process = run(
        "--model=slot_attention",
        "--set=model.encoder_channels=4",
        "--set=model.encoder_kernels=3",
        "--set=model.decoder_channels=4",
        "--set=model.decoder_kernels=3",
        "--set=model.num_steps=1",
        "--set=train.batch_size=4",
        "--max_batch=8",
        "--chips=4",
        f"--json={tmp_path / 'check.json'}",
    )
    assert process.returncode == 0, process.stderr
    assert (
        "fits: needs 0.0" in process.stdout
        and "largest batch: 8 fits, and the search ends there" in process.stdout
    )
    assert json.loads((tmp_path / "check.json").read_text())["all_reduces"] > 0
