"""The list of Ultralytics internals that yolo_lite relies on: complete, and present in every supported release."""

import ast
import functools
import importlib

import pytest
from conftest import ROOT
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from yolo_lite.ultralytics_hooks import internals
from yolo_lite.ultralytics_hooks.internals import (
    INTERNALS,
    NEWER,
    OF_A_CRITERION,
    OF_A_MODEL,
    OF_AN_END_TO_END_CRITERION,
)

PACKAGE = ROOT / "yolo_lite"
LIST = PACKAGE / "ultralytics_hooks" / "internals.py"


def name_of(module, attribute=None):
    """Write what is used as the list does; a submodule is a module, not an attribute."""
    if attribute is None:
        return module
    try:
        importlib.import_module(f"{module}.{attribute}")
    except ImportError:
        return f"{module}:{attribute}"
    return f"{module}.{attribute}"


def module_of(node, aliases):
    """Return the module of Ultralytics that an expression is, None if it is none."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    if called.endswith("import_module") and node.args and isinstance(node.args[0], ast.Constant):
        name = node.args[0].value
        return name if name.partition(".")[0] == "ultralytics" else None
    return "ultralytics.nn.tasks" if called in ("tasks", "internals.tasks") else None


def used_in(source):
    """Return the names inside Ultralytics that a file imports, and those that it reads from a module of Ultralytics."""
    tree, aliases, found = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ultralytics":
            for each in node.names:
                name = name_of(node.module, each.name)
                found.add(name)
                if ":" not in name:
                    aliases[each.asname or each.name] = name
        elif isinstance(node, ast.Import):
            for each in node.names:
                if each.name.partition(".")[0] == "ultralytics":
                    found.add(each.name)
                    aliases[each.asname or "ultralytics"] = each.name if each.asname else "ultralytics"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            module = module_of(node.value, aliases)
            if module:
                aliases[node.targets[0].id] = module
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (module := module_of(node.value, aliases)):
            found.add(name_of(module, node.attr))
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) == "getattr" and (module := module_of(node.args[0], aliases)):
                names = [each.value for each in ast.walk(node.args[1]) if isinstance(each, ast.Constant)]
                found |= {name_of(module, name) for name in names}
            elif module := module_of(node, aliases):
                found.add(module)
        elif isinstance(node, ast.Constant) and str(node.value).startswith("ultralytics") and ":" in str(node.value):
            found.add(node.value)
    return found


@functools.cache
def uses():
    """Return who uses what: name inside Ultralytics -> files."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for name in () if file == LIST else used_in(file.read_text("utf-8")):
            found.setdefault(name, set()).add(str(file.relative_to(PACKAGE)))
    modules = {name.partition(":")[0] for name in found if ":" in name}
    # leave out modules whose members are listed
    return {name: files for name, files in found.items() if name not in modules}


def attributes_used():
    """Return every attribute that any file reads or sets, of whatever."""
    trees = [ast.parse(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py") if file != LIST]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)} | {
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.core
@pytest.mark.parametrize("name", INTERNALS)
def test_it_is_there(name):
    try:
        internals.find(name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{error}; it is used by {', '.join(sorted(uses().get(name, {'internals.py'})))}")


@pytest.mark.core
def test_a_built_model_has_what_is_read_from_it():
    model = DetectionModel("yolov8n.yaml", verbose=False)
    model.names = {}  # normally set by `YOLO`
    for path in OF_A_MODEL:
        eval(f"model.{path}", {"model": model})


@pytest.mark.core
@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo26n.yaml"])
def test_a_criterion_has_what_is_exchanged_in_it(name):
    model = DetectionModel(name, verbose=False)
    model.args = get_cfg()
    criterion = model.init_criterion()
    branches = [getattr(criterion, each) for each in OF_AN_END_TO_END_CRITERION if hasattr(criterion, each)]
    assert len(branches) == (2 if name == "yolo26n.yaml" else 0)
    for branch in branches or [criterion]:
        assert OF_A_CRITERION.keys() <= vars(branch).keys()


@pytest.mark.core
def test_what_only_newer_releases_have_is_there_in_the_newest():
    if internals.version() == internals.TESTED[1]:
        for name in NEWER:
            internals.find(name)
    assert set(internals.classes(internals.HEADS, internals.namespace())) >= {
        internals.find("ultralytics.nn.modules.head:Detect")
    }


def test_the_list_has_all_that_is_used():
    unlisted = {name: files for name, files in uses().items() if name not in INTERNALS and name not in NEWER}
    assert not unlisted, f"internals.py lacks {unlisted}"


def test_all_of_the_list_is_used():
    attributes = attributes_used()
    by_build_model = {f"ultralytics.nn.tasks:{name}" for name in internals.MODELS.values()}
    by_build_model |= {f"ultralytics.nn.tasks:{name}" for name in ("DetectionModel", "RTDETRDetectionModel")}
    by_list = {"ultralytics:__version__"}
    for name in {*INTERNALS, *NEWER} - uses().keys() - by_build_model - by_list:
        owner, _, member = name.rpartition(".")
        assert ":" in owner and member in attributes, f"nothing uses {name}"
    for path in OF_A_MODEL:
        assert path.rpartition(".")[2] in attributes, f"nothing uses {path} of a model"
    for path in {**OF_A_CRITERION, **OF_AN_END_TO_END_CRITERION}:
        assert path in attributes, f"nothing uses {path} of a criterion"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ultralytics.utils import ops, b", {"ultralytics.utils.ops", "ultralytics.utils:b"}),
        ("from ultralytics.nn import tasks\nx = tasks.y", {"ultralytics.nn.tasks", "ultralytics.nn.tasks:y"}),
        ("import ultralytics\nultralytics.z", {"ultralytics", "ultralytics:z"}),
        ("t = import_module('ultralytics.nn.tasks')\nt.y", {"ultralytics.nn.tasks", "ultralytics.nn.tasks:y"}),
        ("import_module('ultralytics').z", {"ultralytics", "ultralytics:z"}),
        ("t = internals.tasks()\ngetattr(t, 'S', False)", {"ultralytics.nn.tasks", "ultralytics.nn.tasks:S"}),
        ("find('ultralytics.nn.tasks:BaseModel.load')", {"ultralytics.nn.tasks:BaseModel.load"}),
        ("import torch\ntorch.nn", set()),
    ],
)  # fmt: skip
def test_uses_are_found(source, found):
    assert used_in(source) == found
