"""launch/check_tpu.py: what it prints, the files it keeps, the table of docs/tpu.md, one-line errors."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from tfobj.errors import UserError
from tfobj.launch import check_tpu

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIB = 2**30
LIBTPU = all(importlib.util.find_spec(name) for name in ("jax", "libtpu"))


def report(**changes):
    return {
        "model": "iodine", "dataset": "clevr_with_masks", "preset": "paper", "precision": "float32", "settings": [], "image_shape": [128, 128, 3],
        "batch_size": 32, "topology": "v5e:2x4", "chips": 8, "kind": "TPU v5 lite", "devices": 8, "hbm_bytes": 16 * GIB, "seconds": 61.4,
        "fits": True, "error": None, "needed_bytes": 8 * GIB, "argument_bytes": GIB // 4, "output_bytes": GIB // 4, "alias_bytes": GIB // 4,
        "temp_bytes": 31 * GIB // 4, "code_bytes": 1000, "flops": 2.5e12, "accessed_bytes": 7.5e10, "all_reduces": 1, "all_gathers": 0,
        "lowering_seconds": 7.4, "fingerprint": "abc", "software": {"tensorflow": "2.21.0", "jax": "0.10.2", "libtpu": "0.0.42.1"}, **changes}


def found(largest, too_large, complete=True, predicted=12, **trial):
    trials = [{"batch_size": b, "fits": b <= largest, "error": None, **(trial if b == too_large else {})} for b in (4, largest, too_large) if b]
    return {"largest": largest, "too_large": too_large, "complete": complete, "predicted": predicted, "trials": trials}


def test_lines_of_a_step_that_fits():
    lines = check_tpu.describe(report())
    assert lines == [
        "iodine on clevr_with_masks, preset paper: batch 32 of 128x128x3, float32",
        "TPU v5 lite (v5e:2x4), 8 chips, HBM per chip",
        "fits: needs 8.00 GiB of 16.00 GiB",
        "  = arguments 0.250 + outputs 0.250 - outputs in place 0.250 + temporaries 7.750 GiB",
        "per step 20,000.0 GFLOP, 600.0 GB read and written; per chip 2,500.0 GFLOP, 75.0 GB",
        "1 all-reduces, 0 all-gathers",
        "lowered in 7 s, compiled in 61 s"]


def test_lines_of_a_step_that_does_not():
    lines = check_tpu.describe(report(fits=False, needed_bytes=24.25 * GIB, chips=1, devices=2, topology="v3:2x2", settings=["train.micro_batches=8"]))
    assert lines[0].endswith("float32, train.micro_batches=8")
    assert lines[1:3] == ["TPU v5 lite (v3:2x2), 1 chip of two cores, HBM per core", "does not fit: needs at least 24.25 GiB of 16.00 GiB"]
    assert len(lines) == 4
    assert "needs more than all of 16.00 GiB" in check_tpu.verdict(report(fits=False, needed_bytes=None))
    failed = {k: v for k, v in report(fits=None, error="stopped after 3 s").items() if k not in ("kind", "devices", "hbm_bytes", "needed_bytes")}
    assert check_tpu.describe(failed)[2] == "not compiled: stopped after 3 s"


@pytest.mark.parametrize("search, text", [
    (found(8, 9), "largest batch: 8 fits, 9 does not (3 batches compiled: 4, 8, 9)"),
    (found(1024, None), "largest batch: 1024 fits, and the search ends there (2 batches compiled: 4, 1024)"),
    (found(0, 4, predicted=None), "largest batch: none was found to fit, 4 does not (2 batches compiled: 4, 4)"),
    (found(8, 9, fits=None, error="crash"), "largest batch: 8 fits, 9 does not compile (crash) (3 batches compiled: 4, 8, 9)"),
    (found(8, 64, complete=False), "largest batch: 8 fits, 64 does not; the time was up, what lies between was not compiled (a straight line "
                                   "says 12) (3 batches compiled: 4, 8, 64)")])
def test_line_of_the_largest_batch(search, text):
    assert check_tpu.describe_largest(search) == text


def test_table_has_one_row_per_file(tmp_path):
    rows = [report(), report(precision="bfloat16", largest_batch=found(40, 48)), report(fits=False, needed_bytes=24.25 * GIB, chips=1, devices=1),
            report(model="slot_mlp", fits=None, error="crash", settings=["train.micro_batches=8"])]
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.json").write_text(json.dumps(row))
    lines = check_tpu.table(tmp_path).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert lines[2].startswith("| `iodine` | clevr_with_masks | 32 | float32 | 1 of v5e:2x4 | ≥ 24.25 of 16.00: **does not fit** | – |")
    assert lines[3] == "| `iodine` | clevr_with_masks | 32 | float32 | 8 of v5e:2x4 | 8.00 of 16.00 | 7.75 | 20.00 | 600 | 1 | not searched | 61 |"
    assert "| bfloat16 |" in lines[4] and "| 40 |" in lines[4]
    assert "| float32, `train.micro_batches=8` |" in lines[5] and "not compiled: crash" in lines[5]
    assert lines[-1].startswith("Compiled with tensorflow 2.21.0, jax 0.10.2, libtpu 0.0.42.1.")


@pytest.mark.parametrize("search, cell", [(found(8, 9), "8"), (found(1024, None), "1024 or more"), (found(8, 64, complete=False), "at least 8"), (None, "not searched")])
def test_cell_of_the_largest_batch(search, cell):
    assert check_tpu._largest_cell(search) == cell


def test_docs_are_up_to_date_with_the_results():
    text = (ROOT / "docs" / "tpu.md").read_text()
    assert check_tpu.fill(text, check_tpu.table(ROOT / "results" / "tpu")) == text


def test_fill_replaces_only_what_stands_between_the_markers():
    text = f"before\n{check_tpu.BEGIN}\nold\n{check_tpu.END}\nafter"
    assert check_tpu.fill(text, "new") == f"before\n{check_tpu.BEGIN}\nnew\n{check_tpu.END}\nafter"
    with pytest.raises(UserError, match="must have the lines"):
        check_tpu.fill("no markers", "new")


def test_files_are_named_by_their_settings_and_kept(tmp_path):
    from tfobj.portable import tpu

    settings = {"train.batch_size": 4, "train.precision": "bfloat16", "train.micro_batches": 2}
    experiment = check_tpu._experiment("iodine", "clevr_with_masks", "paper", settings)
    assert experiment.model.image_size == (128, 128)
    name = check_tpu.file_name(experiment, "clevr_with_masks", settings, tpu.parse_topology("v5e:2x4"), 8)
    assert name == "iodine_clevr_with_masks_paper_batch4_bfloat16_micro_batches=2_v5e-2x4_chips8.json"
    path = tmp_path / name
    assert not check_tpu.is_current(path, experiment, search=False)
    path.write_text(json.dumps(report(fingerprint=experiment.fingerprint())))
    assert check_tpu.is_current(path, experiment, search=False) and not check_tpu.is_current(path, experiment, search=True)
    assert not check_tpu.is_current(path, experiment.override({"model.num_slots": 5}), search=False)
    path.write_text(json.dumps(report(fingerprint=experiment.fingerprint(), fits=None)))
    assert not check_tpu.is_current(path, experiment, search=False)
    path.write_text("{")
    assert not check_tpu.is_current(path, experiment, search=False)


def test_all_presets_continue_where_files_exist(tmp_path, monkeypatch):
    """Interrupted after three checks and started again, every check is made once."""
    from absl.testing import flagsaver

    from tfobj.portable import tpu

    made = []

    def check(model, dataset, preset, settings, topology, chips, search):
        made.append((model, dataset, topology.name, chips, *settings.items()))
        if len(made) == 4:
            raise KeyboardInterrupt
        return report(model=model, fingerprint=check_tpu._experiment(model, dataset, preset, settings).fingerprint())

    monkeypatch.setattr(check_tpu, "check", check)
    if not check_tpu.flags.FLAGS.is_parsed():
        check_tpu.flags.FLAGS(["check_tpu.py"])
    with flagsaver.flagsaver():
        with pytest.raises(KeyboardInterrupt):
            check_tpu._check_all({}, tpu.parse_topology("v5e:2x2"), tmp_path)
        check_tpu._check_all({}, tpu.parse_topology("v5e:2x2"), tmp_path)
        files = list(tmp_path.glob("*.json"))
        assert len(made) == len(files) + 1 and len(set(made)) == len(files) and len(files) >= 22
        check_tpu._check_all({}, tpu.parse_topology("v5e:2x2"), tmp_path)
        assert len(made) == len(files) + 1


def run(*arguments):
    return subprocess.run([sys.executable, str(ROOT / "launch" / "check_tpu.py"), *arguments], text=True, capture_output=True, timeout=600)


@pytest.mark.parametrize("arguments, message", [
    ([], "One of `--model`, `--all_presets` and `--write_docs`"), (["--model=iodine", "--all_presets"], "One of `--model`"),
    (["--model=iodine", "--topology=v5x:2x2"], "Unknown TPU 'v5x'. Did you mean 'v5"), (["--model=iodine", "--topology=v5e:4"], "`--topology` of v5e must be 2 sizes"),
    (["--modle=iodine"], "Unknown flag 'modle'. Did you mean 'model'?"), (["--model=iodine", "--set", "train.batch_size"], "`--set` expects name=value")])
def test_mistakes_are_one_line(arguments, message):
    process = run(*arguments)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert process.returncode == 2 and len(errors) == 1 and errors[0].startswith(f"error: {message}"), process.stderr


def test_check_of_the_docs_needs_no_tensorflow(tmp_path):
    assert run("--write_docs", "--check").stdout == "docs/tpu.md is up to date.\n"
    assert "has no files of checks" in run("--write_docs", "--check", f"--json_dir={tmp_path}").stderr
    (tmp_path / "one.json").write_text(json.dumps(report(model="other")))
    process = run("--write_docs", "--check", f"--json_dir={tmp_path}")
    assert process.returncode == 2 and "error: docs/tpu.md is not up to date" in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(not LIBTPU, reason="needs jax and libtpu")
def test_whole_command(tmp_path):
    process = run("--model=slot_attention", "--set=model.encoder_channels=4", "--set=model.encoder_kernels=3", "--set=model.decoder_channels=4",
                  "--set=model.decoder_kernels=3", "--set=model.num_steps=1", "--set=train.batch_size=4", "--max_batch=8", "--chips=4",
                  f"--json={tmp_path / 'check.json'}")
    assert process.returncode == 0, process.stderr
    assert "fits: needs 0.0" in process.stdout and "largest batch: 8 fits, and the search ends there" in process.stdout
    assert json.loads((tmp_path / "check.json").read_text())["all_reduces"] > 0
