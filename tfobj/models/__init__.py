"""One model per paper; `tfobj.registry.MODELS` is the table of them."""
