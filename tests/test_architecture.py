"""The plan of the house, read from the imports: they point only to the left of

structs, config, errors, execution, files, random, registry -> data -> nn -> distributions -> inference -> models
    -> metrics -> training -> portable -> serving -> bench -> viz -> commands -> launch
"""

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE = ("structs", "config", "errors", "execution", "files", "random", "registry")
ORDER = (
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
)


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


PACKAGE = [p for p in sources("tfobj", "datasets", "launch") if not p.name.endswith("_test.py")]


def module_name(path):
    """datasets/ and launch/ are tfobj.datasets and tfobj.launch (setup.cfg, package_dir)."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "tfobj" else ("tfobj", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path):
    """Returns {(imported module, at top level or not)}, those inside functions included."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.Lambda)
        for node in ast.walk(f)
    }
    found = set()
    for node in ast.walk(tree):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            found |= {(alias.name, top) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = (
                module_name(path).split(".")
                if path.name == "__init__.py"
                else module_name(path).split(".")[:-1]
            )
            base = ".".join(
                [*package[: len(package) + 1 - node.level], *filter(None, [node.module])]
                if node.level
                else [node.module]
            )
            # `from tfobj.nn import mlp` may name a module or an attribute: keep both readings.
            found |= {(base, top)} | {(f"{base}.{alias.name}", top) for alias in node.names}
    return frozenset(found)


def room(module):
    """Returns the room of a tfobj module: "base", "data", ..., "datasets", "generators", or None for tfobj itself."""
    parts = module.split(".")
    if parts[0] != "tfobj" or len(parts) == 1:
        return None
    if parts[1] in BASE:
        return "base"
    if parts[1] == "datasets":
        return "generators" if parts[2:3] == ["generators"] else "datasets"
    return parts[1]


def allowed(source, target):
    if target in (None, "base") or source == target:
        return True
    if source == "generators":
        return False
    if source == "datasets":  # builders draw scenes and resize pictures
        return target in ("generators", "data")
    if source == "data":
        return target == "generators"
    if target == "generators":  # pure NumPy, at home left of data
        return True
    if (
        target == "datasets"
    ):  # builders are reached through their names, by tfobj.data; commands may list them
        return source == "launch"
    if source == "metrics" and target == "models":  # scores read SceneOutputs, whoever made them
        return False
    return ORDER.index(target) < ORDER.index(source)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_left(path):
    source = room(module_name(path))
    if source is None:
        return
    assert source in (*ORDER, "datasets", "generators"), (
        f"{source} is no room of the house; see tests/test_architecture.py"
    )
    targets = {t for t, _ in imports(path) if t.startswith("tfobj")}
    wrong = sorted(
        t
        for t in targets
        if room(t) in (*ORDER, "datasets", "generators") and not allowed(source, room(t))
    )
    assert not wrong, f"{path.relative_to(ROOT)} ({source}) imports {wrong}"


@pytest.mark.parametrize("path", PACKAGE, ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_imports_commands_or_top_level_twins(path):
    if path.is_relative_to(ROOT / "launch"):
        return
    names = {t for t, _ in imports(path)}
    wrong = [
        t
        for t in names
        if t.split(".")[0] in ("launch", "datasets") or t.startswith("tfobj.launch")
    ]
    assert not wrong


@pytest.mark.parametrize("path", sources("datasets/generators"), ids=lambda p: p.name)
def test_generators_are_usable_without_tensorflow(path):
    heavy = {
        t
        for t, _ in imports(path)
        if t.split(".")[0]
        in ("tensorflow", "tensorflow_datasets", "keras", "tensorflow_probability")
    }
    assert not heavy


@pytest.mark.parametrize("path", sources("tfobj/data"), ids=lambda p: p.name)
def test_data_needs_no_tensorflow_at_import(path):
    assert not {
        t
        for t, top in imports(path)
        if top and t.split(".")[0] in ("tensorflow", "tensorflow_datasets", "keras")
    }


def test_no_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.:/])/(work|home|root|Users|mnt)" + "/")
    suffixes = (".py", ".md", ".cfg", ".toml", ".txt", ".json", ".yaml", ".yml")
    folders = ("tfobj", "datasets", "launch", "tests", "saved_models")
    files = [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in suffixes]
    files += [
        p for p in ROOT.iterdir() if p.is_file() and (p.suffix in suffixes or p.name == "Makefile")
    ]
    found = [
        f"{p.relative_to(ROOT)}: {line.strip()}"
        for p in files
        for line in p.read_text(errors="ignore").splitlines()
        if pattern.search(line)
    ]
    assert not found


def test_every_package_folder_is_installed():
    listed = set(
        (ROOT / "setup.cfg").read_text().split("packages =")[1].split("package_dir")[0].split()
    )
    for init in sorted(ROOT.glob("*/**/__init__.py")):
        if init.relative_to(ROOT).parts[0] in ("tfobj", "datasets", "launch"):
            assert module_name(init) in listed, (
                f"{module_name(init)} is missing in setup.cfg, packages"
            )


def test_the_rules_themselves():
    assert allowed("models", "nn") and not allowed("nn", "models")
    assert (
        allowed("viz", "metrics")
        and not allowed("metrics", "models")
        and not allowed("metrics", "training")
    )
    assert (
        allowed("data", "generators")
        and not allowed("data", "datasets")
        and not allowed("generators", "data")
    )
    assert allowed("launch", "datasets") and not allowed("models", "datasets")
    assert (
        room("tfobj.nn.mlp.MLP") == "nn"
        and room("tfobj.datasets.generators.tetris") == "generators"
        and room("tfobj") is None
    )
