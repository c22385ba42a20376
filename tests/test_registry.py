"""Names that users type: what they lead to, forgiven spellings, errors."""

import subprocess
import sys

import pytest

from tfobj import registry
from tfobj.config import Config
from tfobj.errors import UserError


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_entry_leads_to_a_model_with_presets(name):
    model = registry.model_class(name)
    assert issubclass(model.config_class, Config)
    assert registry.model_presets(name)
    assert all(text for text in registry.model_entry(name))


@pytest.mark.parametrize("alias", registry.MODEL_ALIASES)
def test_aliases_lead_to_models(alias):
    assert registry.canonical_model_name(alias) in registry.MODELS


@pytest.mark.parametrize("spelling", ["slot-attention", " Slot_Attention ", "SLOT-ATTENTION"])
def test_hyphens_and_capitals_are_forgiven(spelling):
    assert registry.canonical_model_name(spelling) == "slot_attention"


def test_unknown_name_gives_the_nearest_and_all():
    with pytest.raises(UserError) as error:
        registry.model_entry("iodin")
    text = str(error.value)
    assert text.startswith("Unknown model 'iodin'. Did you mean 'iodine'? Valid: ")
    assert all(name in text for name in registry.MODELS)


def test_looking_at_the_table_imports_nothing_heavy():
    code = (
        "import sys, tfobj.registry, tfobj.config\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
