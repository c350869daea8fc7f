"""Registration without an explicit import: the start-up files, the import finder, and failures."""

import base64
import hashlib
import sys
import zipfile

import pytest
from conftest import ROOT, python, run

pytestmark = pytest.mark.core
REGISTERED = "import ultralytics.nn.tasks as tasks; print(hasattr(tasks.parse_model, 'yolo_lite'))"


def last_line(process):
    return process.stdout.strip().splitlines()[-1]


def test_fresh_interpreter_registers(tmp_path):
    assert last_line(python(REGISTERED, tmp_path)) == "True"


def test_hook_can_be_switched_off(tmp_path):
    assert last_line(python(REGISTERED, tmp_path, YOLO_LITE_HOOK="0")) == "False"


@pytest.mark.parametrize(
    "order",
    [
        "import ultralytics.nn.tasks, yolo_lite",
        pytest.param("import yolo_lite, ultralytics", marks=pytest.mark.slow),  # like the hook, which runs first
    ],
)
def test_explicit_import_registers_in_both_orders(tmp_path, order):
    code = f"{order}\nfrom ultralytics import YOLO\nprint(YOLO('yolov8n-mnv3.yaml').model.model[0].level)"
    assert last_line(python(code, tmp_path, YOLO_LITE_HOOK="0")) == "1"


def test_start_is_cheap(tmp_path):
    """Starting Python loads our two smallest files and nothing that they would have to import."""
    code = "import sys; print(sorted(m for m in sys.modules if m.startswith(('yolo_lite', 'torch', 'ultralytics'))))"
    assert last_line(python(code, tmp_path)) == "['yolo_lite', 'yolo_lite._startup']"


def test_import_is_cheap(tmp_path):
    code = "import yolo_lite, sys; dir(yolo_lite); print(any(m in sys.modules for m in ('torch', 'timm', 'yaml')))"
    assert last_line(python(code, tmp_path)) == "False"


def test_stock_model_loads_no_backbone_of_ours(tmp_path):
    code = (
        "from ultralytics import YOLO; import sys; YOLO('yolov8n.yaml');"
        "print([m for m in sys.modules if m.startswith(('timm', 'yolo_lite.backbones', 'yolo_lite.blocks'))])"
    )
    assert last_line(python(code, tmp_path)) == "[]"


def test_a_failure_of_ours_leaves_the_stock_command_working(tmp_path):
    """Here our module cannot even be imported; Ultralytics works on and one line says what happened."""
    code = (
        "import sys; sys.modules['yolo_lite.ultralytics_hooks.hooks'] = None\n"
        "from ultralytics import YOLO; print(len(YOLO('yolov8n.yaml').model.model))"
    )
    process = python(code, tmp_path)
    assert last_line(process) == "23"
    assert process.stdout.count("yolo_lite: not registered with Ultralytics") == 1
    assert "Traceback" not in process.stdout


BESIDE = {  # other finder or loader -> code that installs it before Ultralytics is imported
    "a finder of Python 2": """
class Old:
    def find_module(self, name, path=None):
        return None
sys.meta_path[:0] = [Old(), Old]
""",
    "a finder without anything": "sys.meta_path[:0] = [object(), None]" if sys.version_info >= (3, 12) else "",
    "a loader for all modules": """
class Shared(importlib.abc.Loader):
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(open(module.__spec__.origin).read(), module.__spec__.origin, "exec"), vars(module))
shared = Shared()
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or not (spec.origin or "").endswith(".py") or not name.startswith("ultralytics"):
            return None
        spec.loader = shared
        return spec
sys.meta_path.insert(1, Finder)  # behind ours
""",
    "a loader without attributes": """
class Slots(importlib.machinery.SourceFileLoader):
    __slots__ = ()
    def __setattr__(self, name, value):
        if name == "exec_module":
            raise AttributeError(name)
        super().__setattr__(name, value)
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and name.startswith("ultralytics") and spec.origin.endswith(".py"):
            spec.loader = Slots(name, spec.origin)
            return spec
sys.meta_path.insert(1, Finder)  # behind ours
""",
    "a class for a loader": """
class Static:
    @staticmethod
    def create_module(spec):
        return None
    @staticmethod
    def exec_module(module):
        exec(compile(open(module.__spec__.origin).read(), module.__spec__.origin, "exec"), vars(module))
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and name in ("ultralytics.nn.tasks", "ultralytics.nn.modules.conv"):
            spec.loader = Static
            return spec
sys.meta_path.insert(1, Finder)  # behind ours
""",
}


ALWAYS = ("a finder of Python 2", "a loader for all modules")


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[] if what in ALWAYS else [pytest.mark.slow]) for what in BESIDE]
)
def test_other_finders_and_loaders(what, tmp_path):
    """Ultralytics is imported by whoever finds it, is registered with once, and keeps its own loader."""
    code = f"""
import importlib.abc, importlib.machinery, sys
{BESIDE[what]}
import ultralytics.nn.tasks as tasks
print(type(tasks.__loader__).__module__, type(tasks.__spec__.loader).__module__, end=" ")
print(hasattr(tasks.parse_model, "yolo_lite"), hasattr(tasks.BaseModel.fuse, "yolo_lite"))
"""
    process = python(code, tmp_path)
    assert last_line(process).endswith("True True") and "yolo_lite" not in last_line(process)
    assert "not registered" not in process.stdout


def test_a_failure_that_cannot_be_said_is_silent(tmp_path):
    code = "import sys; sys.modules['yolo_lite.ultralytics_hooks.hooks'] = None; sys.stderr.close()\n"
    code += "import ultralytics.nn.tasks as tasks; print(hasattr(tasks.parse_model, 'yolo_lite'))"
    assert last_line(python(code, tmp_path)) == "False"


def test_parser_that_cannot_be_patched(tmp_path):
    """Ultralytics with a changed parser builds its own models, and refuses ours in one sentence."""
    code = """
import types
import ultralytics.nn.tasks as tasks
from ultralytics import YOLO
from yolo_lite import ConfigError
from yolo_lite.ultralytics_hooks import parser
original = tasks.parse_model.__wrapped__
def changed(d, ch, verbose=True):
    return original(d, ch, verbose)
namespace = {**vars(tasks), 'original': original}
tasks.parse_model = parser.parse_model(types.FunctionType(changed.__code__, namespace))
print(len(YOLO('yolov8n.yaml').model.model))
try:
    YOLO('yolov8n-mnv3.yaml')
except ConfigError as error:
    print(error)
"""
    output = python(code, tmp_path).stdout
    assert "23\n" in output
    assert "its model parser cannot be patched" in output and "8.4.0 to" in output


def test_wheel_carries_startup_files_and_configs(tmp_path):
    """Built as pip builds it, in a copy of the sources; every added file is in RECORD with its hash."""
    sys.path.insert(0, str(ROOT / "scripts" / "release"))
    try:
        import build_backend
    finally:
        sys.path.pop(0)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts' / 'release')!r}); import build_backend;"
        "print(getattr(build_backend, sys.argv[1])(sys.argv[2]))"
    )
    for hook, has_configs in (("build_wheel", True), ("build_editable", False)):
        target = tmp_path / hook
        target.mkdir()
        name = run(sys.executable, "-c", code, hook, target, cwd=ROOT).stdout.split()[-1]
        with zipfile.ZipFile(target / name) as wheel:
            names = wheel.namelist()
            record = wheel.read(next(n for n in names if n.endswith("RECORD"))).decode().splitlines()
            assert set(build_backend.STARTUP_FILES) <= set(names)
            assert ("yolo_lite/cfg/yolov8-mnv3.yaml" in names) == has_configs
            assert ("yolo_lite/cfg/datasets/shapes.yaml" in names) == has_configs
            for line in record:
                path, digest, _ = line.rsplit(",", 2)
                if digest:
                    actual = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(path)).digest()).rstrip(b"=").decode()
                    assert digest == f"sha256={actual}", path
            assert len(record) == len(names) == len(set(names))


def test_startup_files_name_what_exists():
    import importlib

    sys.path.insert(0, str(ROOT / "scripts" / "release"))
    try:
        from build_backend import STARTUP_FILES
    finally:
        sys.path.pop(0)
    module, _, function = STARTUP_FILES["yolo_lite.start"].strip().partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert STARTUP_FILES["yolo_lite.pth"] == f"import {module}; {module}.{function}()\n"
