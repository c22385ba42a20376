"""Small runs, exported once and run once."""

import pytest
from portable_host import run_step, small


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Returns a function from a model's name to the folder of its small experiment.

    It is exported with the initial weights.
    """
    pytest.importorskip(
        "jax", reason="exporting and running a step need JAX: pip install 'tfobj[jax]'"
    )
    from tfobj.portable import exporting

    folders = {}

    def export(model):
        if model not in folders:
            folders[model] = tmp_path_factory.mktemp("exported") / model
            exporting.export(small(model), folders[model], precision="highest")
        return folders[model]

    return export


@pytest.fixture(scope="session")
def finished(exported, tmp_path_factory):
    """Returns a function from a model's name to the folder of its 20 steps on the JAX host."""
    folders = {}

    def run(model):
        if model not in folders:
            folders[model] = tmp_path_factory.mktemp("finished") / model
            status, errors = run_step(
                f"--artifact={exported(model)}", f"--workdir={folders[model]}"
            )
            assert status == 0, errors
        return folders[model]

    return run
