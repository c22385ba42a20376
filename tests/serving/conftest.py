"""Every model of the conformance table, exported once per session."""

from typing import Any, NamedTuple

import conformance
import pytest


class Exported(NamedTuple):
    """One model on both sides of the border."""

    case: Any
    model: Any
    folder: Any
    """Version folder."""
    loaded: Any
    """What `tf.saved_model.load` makes of it."""
    decomposer: Any
    """`zoo.Decomposer`."""


@pytest.fixture(scope="session")
def export_case(tmp_path_factory):
    """Returns a function that exports a case of the table, at most once."""
    done = {}

    def export_once(case):
        import tensorflow as tf

        from tfobj.serving import export, zoo

        if case.id not in done:
            model = conformance.build(case)
            folder = export.export_model(model, tmp_path_factory.mktemp("models") / case.id)
            done[case.id] = Exported(
                case, model, folder, tf.saved_model.load(str(folder)), zoo.load(folder.parent)
            )
        return done[case.id]

    return export_once


@pytest.fixture(params=conformance.slow_if_named(conformance.MODELS), ids=lambda case: case.id)
def exported(request, export_case):
    """`Exported`, for every line of the table; those with a name are slow."""
    return export_case(request.param)


@pytest.fixture
def exported_attention(export_case):
    """`Exported` of one deterministic model with a free number of slots."""
    return export_case(next(case for case in conformance.MODELS if case.model == "slot_attention"))


@pytest.fixture
def exported_iodine(export_case):
    """`Exported` of one model with a posterior and a prior."""
    return export_case(next(case for case in conformance.MODELS if case.id == "iodine"))
