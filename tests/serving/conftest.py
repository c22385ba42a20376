"""The models of the conformance table, each exported at most once per process."""

from typing import Any, NamedTuple

import conformance
import pytest


class Exported(NamedTuple):
    """One model on both sides of an export."""

    case: Any
    model: Any
    folder: Any
    """Version folder."""
    loaded: Any
    """Result of `tf.saved_model.load`."""
    decomposer: Any
    """`zoo.Decomposer`."""

    @property
    def clip(self):
        """float32 [2, T, H, W, C], for models of clips."""
        return conformance.scenes(self.case.config, batch=2)


@pytest.fixture(scope="session")
def export_case(tmp_path_factory):
    """Returns a function that exports a case of the table, at most once."""
    done = {}

    def export_once(case):
        from tfobj.serving import export, zoo

        if case.id not in done:
            model = conformance.build(case)
            folder = export.export_model(model, tmp_path_factory.mktemp("models") / case.id)
            decomposer = zoo.load(folder.parent)
            # A second `tf.saved_model.load` would take up to a second per model.
            done[case.id] = Exported(case, model, folder, decomposer._functions, decomposer)
        return done[case.id]

    return export_once


@pytest.fixture(params=conformance.slow_if_named(conformance.MODELS), ids=lambda case: case.id)
def exported(request, export_case):
    """`Exported` of every line of the table; lines with a name are slow."""
    return export_case(request.param)


@pytest.fixture(scope="session")
def exported_attention(export_case):
    """`Exported` of one deterministic model with a free number of slots."""
    return export_case(next(case for case in conformance.MODELS if case.model == "slot_attention"))


@pytest.fixture(scope="session")
def exported_iodine(export_case):
    """`Exported` of one model with a posterior and a prior."""
    return export_case(next(case for case in conformance.MODELS if case.id == "iodine"))


@pytest.fixture(scope="session")
def exported_clips(export_case):
    """`Exported` of the model of clips that is exported fastest."""
    return export_case(next(case for case in conformance.CLIP_MODELS if case.model == "rnem"))
