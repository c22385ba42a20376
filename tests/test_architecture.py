"""The layers of the package, read from its imports, which point only to the left of

structs, config, errors, execution, files, lazy, lean_import, processes, random, registry,
replicas, threads
-> data -> nn -> distributions -> inference -> models -> metrics -> training -> portable
-> serving -> bench -> viz -> commands -> launch -> __main__
"""

import ast
import functools
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent

BASE = (
    "structs",
    "config",
    "errors",
    "execution",
    "files",
    "lazy",
    "lean_import",
    "processes",
    "random",
    "registry",
    "replicas",
    "threads",
)
LAYERS = (
    "base",
    "data",
    "nn",
    "distributions",
    "inference",
    "models",
    "metrics",
    "training",
    "portable",
    "serving",
    "bench",
    "viz",
    "commands",
    "launch",
    "__main__",
)
ASIDE = ("datasets", "generators")
"""Layers beside the order, whose neighbours `allowed` lists."""

TENSORFLOW = {"tensorflow", "tensorflow_datasets", "keras", "tensorflow_probability"}


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


PACKAGE = [p for p in sources("tfobj", "datasets", "launch") if not p.name.endswith("_test.py")]


def module_name(path):
    """datasets/ and launch/ are tfobj.datasets and tfobj.launch (setup.cfg, package_dir)."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "tfobj":
        parts = ("tfobj", *parts)
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


@functools.cache
def imports(path):
    """Returns {(imported module, whether at top level)}, with those inside functions."""
    tree = ast.parse(path.read_text())
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            inside |= {id(child) for child in ast.walk(node)}

    found = set()
    for node in ast.walk(tree):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            found |= {(alias.name, top) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = imported_from(path, node)
            # `from tfobj.nn import mlp` may name a module or an attribute: keep both readings.
            found.add((base, top))
            found |= {(f"{base}.{alias.name}", top) for alias in node.names}
    return frozenset(found)


def imported_from(path, node):
    """Returns the absolute name of the module in a `from ... import`."""
    if not node.level:
        return node.module

    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) + 1 - node.level]
    if node.module:
        package.append(node.module)
    return ".".join(package)


def layer(module):
    """Returns the layer of a tfobj module, such as "base" or "data"; None for tfobj itself."""
    parts = module.split(".")
    if parts[0] != "tfobj" or len(parts) == 1:
        return None
    if parts[1] in BASE:
        return "base"
    if parts[1:3] == ["datasets", "generators"]:
        return "generators"
    return parts[1]


def allowed(source, target):
    """Returns whether modules of the layer `source` may import those of `target`."""
    if target in (None, "base") or source == target:
        return True
    if source == "generators":
        return False
    # Builders draw scenes and resize images.
    if source == "datasets":
        return target in ("generators", "data")
    if source == "data":
        return target == "generators"
    # Pure NumPy, to the left of data.
    if target == "generators":
        return True
    # tfobj.data finds builders by their names; commands may list them.
    if target == "datasets":
        return source == "launch"
    # Scores read SceneOutputs, whichever model made them.
    if source == "metrics" and target == "models":
        return False
    return LAYERS.index(target) < LAYERS.index(source)


def describe(path, target):
    return f"{path.relative_to(ROOT)} imports {target}"


def imports_of(paths, forbidden, top_level_only=False):
    """Returns a description of every import in `paths` for which `forbidden(module)` holds."""
    return [
        describe(path, target)
        for path in paths
        for target, top in sorted(imports(path))
        if forbidden(target) and (top or not top_level_only)
    ]


def is_tensorflow(module):
    return module.split(".")[0] in TENSORFLOW


def test_every_module_is_in_a_layer():
    layers = {path: layer(module_name(path)) for path in PACKAGE}
    strays = [
        f"{path.relative_to(ROOT)}: {name!r} is no layer; see tests/test_architecture.py"
        for path, name in layers.items()
        if name not in (None, *LAYERS, *ASIDE)
    ]
    assert not strays, "\n".join(strays)


def test_imports_point_left():
    wrong = []
    for path in PACKAGE:
        source = layer(module_name(path))
        if source is None:
            continue
        for target, _ in sorted(imports(path)):
            target_layer = layer(target)
            if target_layer in (*LAYERS, *ASIDE) and not allowed(source, target_layer):
                wrong.append(f"{describe(path, target)}: {source} may not import {target_layer}")
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_commands_or_top_level_twins():
    """`import datasets` works in a checkout alone; installed, it is tfobj.datasets."""

    def forbidden(module):
        return module.split(".")[0] in ("launch", "datasets") or module.startswith("tfobj.launch")

    libraries = [path for path in PACKAGE if not path.is_relative_to(ROOT / "launch")]
    wrong = imports_of(libraries, forbidden)
    assert not wrong, "\n".join(wrong)


def test_generators_are_usable_without_tensorflow():
    wrong = imports_of(sources("datasets/generators"), is_tensorflow)
    assert not wrong, "\n".join(wrong)


def test_data_needs_no_tensorflow_at_import():
    wrong = imports_of(sources("tfobj/data"), is_tensorflow, top_level_only=True)
    assert not wrong, "\n".join(wrong)


def test_no_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.:/])/(work|home|root|Users|mnt)" + "/")
    suffixes = (".py", ".md", ".cfg", ".toml", ".txt", ".json", ".yaml", ".yml")
    folders = ("tfobj", "datasets", "launch", "tests", "saved_models")

    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    texts = [path for path in files if path.suffix in suffixes or path.name == "Makefile"]

    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in texts
        for line in path.read_text(errors="ignore").splitlines()
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_every_package_folder_is_installed():
    settings = (ROOT / "setup.cfg").read_text()
    listed = set(settings.split("packages =")[1].split("package_dir")[0].split())

    packages = {
        module_name(init)
        for folder in ("tfobj", "datasets", "launch")
        for init in (ROOT / folder).rglob("__init__.py")
    }
    missing = sorted(packages - listed)
    assert not missing, f"setup.cfg, `packages`, lacks {missing}"


def test_the_rules_themselves():
    assert allowed("models", "nn")
    assert not allowed("nn", "models")
    assert allowed("viz", "metrics")
    assert not allowed("metrics", "models")
    assert not allowed("metrics", "training")

    assert allowed("data", "generators")
    assert not allowed("data", "datasets")
    assert not allowed("generators", "data")
    assert allowed("launch", "datasets")
    assert not allowed("models", "datasets")

    assert layer("tfobj.nn.mlp.MLP") == "nn"
    assert layer("tfobj.datasets.generators.tetris") == "generators"
    assert layer("tfobj") is None


def test_the_rules_see_violations(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "tfobj" / "data" / "wrong.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import tensorflow as tf\n\ndef f():\n    from . import folder\n    import keras"
    )

    assert imports(path) == {
        ("tensorflow", True),
        ("tfobj.data", False),
        ("tfobj.data.folder", False),
        ("keras", False),
    }
    assert imports_of([path], is_tensorflow, top_level_only=True) == [
        "tfobj/data/wrong.py imports tensorflow"
    ]
    assert len(imports_of([path], is_tensorflow)) == 2
