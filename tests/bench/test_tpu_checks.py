"""Checks against TPUs: what they say, the files they keep, the table of docs/tpu.md."""

import json
import pathlib

import pytest

from tfobj import files
from tfobj.bench import tpu_checks

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIB = 2**30


def report(**changes):
    return {
        "model": "iodine",
        "dataset": "clevr_with_masks",
        "preset": "paper",
        "precision": "float32",
        "settings": [],
        "image_shape": [128, 128, 3],
        "batch_size": 32,
        "topology": "v5e:2x4",
        "chips": 8,
        "kind": "TPU v5 lite",
        "devices": 8,
        "hbm_bytes": 16 * GIB,
        "seconds": 61.4,
        "fits": True,
        "error": None,
        "needed_bytes": 8 * GIB,
        "argument_bytes": GIB // 4,
        "output_bytes": GIB // 4,
        "alias_bytes": GIB // 4,
        "temp_bytes": 31 * GIB // 4,
        "code_bytes": 1000,
        "flops": 2.5e12,
        "accessed_bytes": 7.5e10,
        "all_reduces": 1,
        "all_gathers": 0,
        "lowering_seconds": 7.4,
        "config": {},
        "software": {"tensorflow": "2.21.0", "jax": "0.10.2", "libtpu": "0.0.42.1"},
        **changes,
    }


def found(largest, too_large, complete=True, predicted=12, **trial):
    trials = [
        {"batch_size": b, "fits": b <= largest, "error": None, **(trial if b == too_large else {})}
        for b in (4, largest, too_large)
        if b
    ]
    return {
        "largest": largest,
        "too_large": too_large,
        "complete": complete,
        "predicted": predicted,
        "trials": trials,
    }


def test_a_step_that_fits_is_described():
    lines = tpu_checks.describe(report())
    assert lines == [
        "iodine on clevr_with_masks, preset paper: batch 32 of 128x128x3, float32",
        "TPU v5 lite (v5e:2x4), 8 chips, HBM per chip",
        "fits: needs 8.00 GiB of 16.00 GiB",
        "  = arguments 0.250 + outputs 0.250 - outputs in place 0.250 + temporaries 7.750 GiB",
        "per step 20,000.0 GFLOP, 600.0 GB read and written; per chip 2,500.0 GFLOP, 75.0 GB",
        "1 all-reduces, 0 all-gathers",
        "lowered in 7 s, compiled in 61 s",
    ]


def test_a_step_that_does_not_fit_is_described():
    lines = tpu_checks.describe(
        report(
            fits=False,
            needed_bytes=24.25 * GIB,
            chips=1,
            devices=2,
            topology="v3:2x2",
            settings=["train.micro_batches=8"],
        )
    )
    assert lines[0].endswith("float32, train.micro_batches=8")
    assert lines[1:3] == [
        "TPU v5 lite (v3:2x2), 1 chip of two cores, HBM per core",
        "does not fit: needs at least 24.25 GiB of 16.00 GiB",
    ]
    assert len(lines) == 4
    assert "needs more than all of 16.00 GiB" in tpu_checks.verdict(
        report(fits=False, needed_bytes=None)
    )
    failed = {
        k: v
        for k, v in report(fits=None, error="stopped after 3 s").items()
        if k not in ("kind", "devices", "hbm_bytes", "needed_bytes")
    }
    assert tpu_checks.describe(failed)[2] == "not compiled: stopped after 3 s"


@pytest.mark.parametrize(
    "search, text",
    [
        (found(8, 9), "largest batch: 8 fits, 9 does not (3 batches compiled: 4, 8, 9)"),
        (
            found(1024, None),
            "largest batch: 1024 fits, and the search ends there (2 batches compiled: 4, 1024)",
        ),
        (
            found(0, 4, predicted=None),
            "largest batch: none was found to fit, 4 does not (2 batches compiled: 4, 4)",
        ),
        (
            found(8, 9, fits=None, error="crash"),
            "largest batch: 8 fits, 9 does not compile (crash) (3 batches compiled: 4, 8, 9)",
        ),
        (
            found(8, 64, complete=False),
            "largest batch: 8 fits, 64 does not; the time was up, what lies between was not "
            "compiled (a straight line says 12) (3 batches compiled: 4, 8, 64)",
        ),
    ],
)
def test_the_largest_batch_is_described(search, text):
    assert tpu_checks.describe_largest(search) == text


def test_table_has_one_row_per_file(tmp_path):
    rows = [
        report(),
        report(precision="bfloat16", largest_batch=found(40, 48)),
        report(fits=False, needed_bytes=24.25 * GIB, chips=1, devices=1),
        report(model="slot_mlp", fits=None, error="crash", settings=["train.micro_batches=8"]),
    ]
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.json").write_text(json.dumps(row))
    lines = tpu_checks.table(tmp_path).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert lines[2].startswith(
        "| `iodine` | clevr_with_masks | 32 | float32 | 1 of v5e:2x4 "
        "| ≥ 24.25 of 16.00: **does not fit** | – |"
    )
    assert lines[3] == (
        "| `iodine` | clevr_with_masks | 32 | float32 | 8 of v5e:2x4 "
        "| 8.00 of 16.00 | 7.75 | 20.00 | 600 | 1 | not searched | 61 |"
    )
    assert "| bfloat16 |" in lines[4]
    assert "| 40 |" in lines[4]
    assert "| float32, `train.micro_batches=8` |" in lines[5]
    assert "not compiled: crash" in lines[5]
    assert lines[-1].startswith("Compiled with tensorflow 2.21.0, jax 0.10.2, libtpu 0.0.42.1.")


@pytest.mark.parametrize(
    "search, cell",
    [
        (found(8, 9), "8"),
        (found(1024, None), "1024 or more"),
        (found(8, 64, complete=False), "at least 8"),
        (None, "not searched"),
    ],
)
def test_the_cell_of_the_largest_batch_is_short(search, cell):
    assert tpu_checks._largest_cell(search) == cell


def test_docs_are_up_to_date_with_the_results():
    table = tpu_checks.table(ROOT / "results" / "tpu")
    assert not files.fill_between(
        ROOT / "docs" / "tpu.md", tpu_checks.BEGIN, tpu_checks.END, table, check=True
    )


def test_files_are_named_by_their_settings_and_kept(tmp_path):
    from tfobj.bench import tpu

    settings = {"train.batch_size": 4, "train.precision": "bfloat16", "train.micro_batches": 2}
    experiment = tpu_checks.make_experiment("iodine", "clevr_with_masks", "paper", settings)
    assert experiment.model.image_size == (128, 128)
    name = tpu_checks.file_name(
        experiment, "clevr_with_masks", settings, tpu.parse_topology("v5e:2x4"), 8
    )
    assert (
        name == "iodine_clevr_with_masks_paper_batch4_bfloat16_micro_batches=2_v5e-2x4_chips8.json"
    )
    path = tmp_path / name
    assert not tpu_checks.is_current(path, experiment, search=False)
    path.write_text(json.dumps(report(config=experiment.to_dict())))
    assert tpu_checks.is_current(path, experiment, search=False)
    assert not tpu_checks.is_current(path, experiment, search=True)
    changed = experiment.override({"model.num_slots": 5})
    assert not tpu_checks.is_current(path, changed, search=False)
    path.write_text(json.dumps(report(config=experiment.to_dict(), fits=None)))
    assert not tpu_checks.is_current(path, experiment, search=False)
    given_up = report(config=experiment.to_dict(), fits=None, compile_minutes=20.0)
    path.write_text(json.dumps(given_up))
    assert tpu_checks.is_current(path, experiment, search=False, compile_minutes=20.0)
    assert not tpu_checks.is_current(path, experiment, search=False, compile_minutes=30.0)
    path.write_text("{")
    assert not tpu_checks.is_current(path, experiment, search=False)


def test_a_setting_that_is_newer_than_a_file_had_its_default(tmp_path):
    experiment = tpu_checks.make_experiment("iodine", "tetris", "paper", {})
    config = experiment.to_dict()
    del config["train"]["ema_decay"]
    path = tmp_path / "check.json"
    path.write_text(json.dumps(report(config=config)))
    assert tpu_checks.is_current(path, experiment, search=False)
    changed = experiment.override({"train.ema_decay": 0.5})
    assert not tpu_checks.is_current(path, changed, search=False)
    config["train"]["gone"] = 1
    path.write_text(json.dumps(report(config=config)))
    assert not tpu_checks.is_current(path, experiment, search=False)


def test_every_model_comes_first_with_its_smallest_preset():
    """In both precisions, on one chip and on eight, with a batch that eight chips can share."""
    from tfobj import registry
    from tfobj.bench import tpu

    rows = tpu_checks._all_rows({}, tpu.parse_topology("v5e:2x2"), 1)
    models = [name for name in registry.MODELS if presets_of(name)]
    first = rows[: 4 * len(models)]
    assert {row[0] for row in first} == set(models)
    assert len({(*row[:2], row[3], row[4]["train.precision"]) for row in first}) == len(first)
    datasets = {row[0]: row[1] for row in first}
    assert datasets["iodine"] == datasets["genesis"] == "tetris"
    assert datasets["video_decomposition"] == "bouncing_balls"

    for model, dataset, _, chips, settings in rows:
        experiment = tpu_checks.make_experiment(model, dataset, "paper", settings)
        assert experiment.train.batch_size % chips == 0


def presets_of(model):
    """Returns the (preset, data set) pairs of a model's paper presets."""
    from tfobj import registry

    return [key for key in registry.model_presets(model) if key[0] == "paper"]


def test_all_presets_continue_where_files_exist(tmp_path, monkeypatch):
    """Interrupted after three checks and started again, every check is made once."""
    from tfobj.bench import tpu

    made = []

    def check(model, dataset, preset, settings, topology, chips, search, limits):
        made.append((model, dataset, topology.name, chips, *settings.items()))
        if len(made) == 4:
            raise KeyboardInterrupt
        return report(
            model=model,
            config=tpu_checks.make_experiment(model, dataset, preset, settings).to_dict(),
        )

    monkeypatch.setattr(tpu_checks, "check", check)
    v5e = tpu.parse_topology("v5e:2x2")
    with pytest.raises(KeyboardInterrupt):
        tpu_checks.check_all(tmp_path, {}, v5e, 1)
    tpu_checks.check_all(tmp_path, {}, v5e, 1)
    kept = list(tmp_path.glob("*.json"))
    assert len(kept) >= 22
    assert len(set(made)) == len(kept)
    assert len(made) == len(kept) + 1  # The interrupted one was begun twice.
    tpu_checks.check_all(tmp_path, {}, v5e, 1)
    assert len(made) == len(kept) + 1
