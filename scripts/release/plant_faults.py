"""Mutation testing: plant faults, one at a time, in a copy of the tree, and run the matching tests.

    python scripts/release/plant_faults.py [only=compare,backbones/mobilenetv2.py] [jobs=1]

The same tests first run without a fault, and all of them must pass. A fault is killed if a test fails. The exit status
is 1 if a fault survives, or if a text to replace no longer occurs exactly once, so that the list stays up to date; a
test of the ordinary suite checks the texts, too. Takes about a minute per fault.

Add an entry to FAULTS for each new package: an inverted comparison, a side effect that is not undone, a wrong default,
a table row that is off by one. If the fault survives, a test is missing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "yolo_lite"
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "*.onnx")
MADE = ("build", "dist", "runs", "datasets")  # top-level folders created by building and training
FAILED = 1  # pytest's exit status if tests failed; higher ones mean that it could not run them
LONGEST = 900  # time limit for the tests of one fault, in seconds


class Fault(NamedTuple):
    """A fault to plant.

    Attributes:
        file: Path of the source file, relative to `yolo_lite`.
        text: Text to replace, which must occur exactly once in the file.
        fault: Replacement text.
        tests: File in `tests`, and the pytest `-k` expression that selects the tests that must fail.
    """

    file: str
    text: str
    fault: str
    tests: tuple[str, str]


FAULTS = [
    Fault(
        "_startup.py",
        'if os.environ.get("YOLO_LITE_HOOK") == "0":',
        'if os.environ.get("YOLO_LITE_HOOK") == "":',
        ("test_startup.py", "hook_can_be_switched_off"),
    ),
    Fault(
        "errors.py",
        "NEAR = 0.6",
        "NEAR = 0.99",
        ("test_config_errors.py", "missing_file_names_the_nearest_config"),
    ),
    Fault(
        "files.py",
        "shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)",
        "pass",
        ("test_files.py", "failure_leaves"),
    ),
    Fault(
        "choose/run.py",
        "if stock and not set(stock) & set(chosen):",
        "if stock and set(stock) & set(chosen):",
        ("test_choose_run.py", "stock_model_is_always"),
    ),
    Fault(
        "choose/cost_model.py",
        "else amount * ratio**2",
        "else amount * ratio",
        ("test_choose.py", "another_size"),
    ),
    Fault("output.py", "_said.add(text)", "_said.add(None)", ("test_files.py", "said_once")),
    Fault(
        "kinds.py", "IMGSZ = whole(least=32, multiple=32)", "IMGSZ = whole(least=32)", ("test_options.py", "refused")
    ),
    Fault(
        "registry.py",
        'Range("an odd number from 1 to 31", lambda n: n % 2 == 1',
        'Range("an odd number from 1 to 31", lambda n: n % 2 == 0',
        ("test_necks.py", "wrong_rows_are_refused"),
    ),
    Fault(
        "discovery.py",
        "                _import_ours()\n",
        "                _found = True\n                _import_ours()\n",
        ("test_parser.py", "threads_that_build_a_model_at_once"),
    ),
    Fault(
        "datasets/shapes.py",
        "return (*((low + high) / 2), *(high - low))",
        "return (*low, *(high - low))",
        ("test_shapes.py", "boxes_are_where_the_colours_are"),
    ),
    Fault(
        "cost.py", "[2 * _count(model, size)", "[_count(model, size)", ("test_models.py", "cost_counts_what_is_there")
    ),
    Fault("edge.py", "max(module.padding) > 15", "max(module.padding) >= 15", ("test_lint.py", "counts_what_is_there")),
    Fault(
        "blocks.py",
        "ULTRALYTICS_NORM = Norm(eps=1e-3, momentum=0.03)",
        "ULTRALYTICS_NORM = Norm(eps=1e-3, momentum=0.1)",
        ("test_necks.py", "blocks_as_rows"),
    ),
    Fault("necks.py", "= [2, 4, 6]", "= [2, 4, 8]", ("test_necks.py", "aspp_equals_torchvisions")),
    Fault(
        "heads.py",
        "legacy = False",
        "legacy = None",
        ("test_necks.py", "light_heads_do_not_depend_on_the_model_built_before"),
    ),
    Fault(
        "losses.py",
        "* (targets.sum().clamp(min=1) / positives)",
        "* 1",
        ("test_losses.py", "class_loss_is_the_formula"),
    ),
    Fault(
        "backbones/mobilenetv2.py",
        "Stack(t=6, c=96, n=3, s=1)",
        "Stack(t=6, c=96, n=2, s=1)",
        ("test_backbones.py", "equal_to_the_reference and mobilenetv2_100"),
    ),
    Fault(
        "weights/loading.py",
        "one = weight.sum(1, keepdim=True)",
        "one = weight.mean(1, keepdim=True)",
        ("test_pretrained.py", "other_image_channels"),
    ),
    Fault(
        "weights/by_role.py",
        'd["backbone"][start - 1][2] in CONTEXT',
        'd["backbone"][start - 1][2] not in CONTEXT',
        ("test_transfer.py", "rows_are_paired_by_what_they_do"),
    ),
    Fault(
        "ultralytics_hooks/hooks.py",
        "            setattr(module, name, value)\n",
        "            pass\n",
        ("test_timm.py", "not slow"),
    ),
    Fault(
        "zoo.py",
        "not 0 < width <= limits.BACKBONE_WIDTH",
        "not 0 <= width <= limits.BACKBONE_WIDTH",
        ("test_backbones.py", "create_backbone_names"),
    ),
    Fault(
        "models.py",
        "        os.environ.pop(NO_INSTALL)\n",
        "        pass\n",
        ("test_bench.py", "reading_a_model_installs_nothing"),
    ),
    Fault(
        "bench/interleaved.py",
        "ratios = [time / first for",
        "ratios = [first / time for",
        ("test_bench.py", "ratios_are_those_within_a_round"),
    ),
    Fault(
        "bench/measurement.py",
        "(1 - confidence) / 2",
        "1 - confidence",
        ("test_bench.py", "median"),
    ),
    Fault(
        "compose/budget.py",
        "all(ours < theirs for ours, theirs in",
        "all(ours > theirs for ours, theirs in",
        ("test_graft.py", "width_is_chosen_to_be_lighter"),
    ),
    Fault(
        "compare/significance.py",
        "verdict(mean, adjusted.get(model)), common[model]",
        "verdict(mean, p), common[model]",
        ("test_compare_statistics.py", "interval_may_leave_out_0"),
    ),
    Fault(
        "compare/baselines.py",
        "if gflops(middle) >= model.gflops",
        "if gflops(middle) <= model.gflops",
        ("test_compare_plan.py", "equal_gflops"),
    ),
    Fault(
        "compare/report/data_files.py",
        '"epochs": run.curves["epoch"][-1]',
        '"epochs": run.curves["epoch"][0]',
        ("test_compare_report.py", "tables_say_the_same"),
    ),
    Fault(
        "weights/regression.py",
        "error, ridge = min(tried)",
        "error, ridge = max(tried)",
        ("test_transfer_fit.py", "what_has_no_room"),
    ),
    Fault(
        "weights/head_targets.py",
        "more[..., bins - 1 :].sum",
        "more[..., bins - 1 : bins].sum",
        ("test_transfer_fit.py", "mass_beyond"),
    ),
    Fault(
        "weights/mimicking.py",
        "each.momentum = momentum",
        "pass",
        ("test_transfer_fit.py", "backbone_learns"),
    ),
    Fault(
        "weights/cache.py",
        "for file in files[:-KEPT]:",
        "for file in files[KEPT:]:",
        ("test_transfer_training.py", "last_transfers_are_kept"),
    ),
    Fault(
        "ultralytics_hooks/training.py",
        "            torch.distributed.broadcast(there, 0)\n",
        "            pass\n",
        ("test_transfer_training.py", "all_workers_begin_alike"),
    ),
    Fault(
        "ultralytics_hooks/keys.py",
        'check_number("nc", d["nc"], whole=True, most=limits.CLASSES)',
        'check_number("nc", d["nc"], whole=True, most=math.inf)',
        ("test_hostile.py", "limits"),
    ),
    Fault(
        "bench/compilers.py",
        "training_files(data)[:CALIBRATED]",
        "training_files(data)[:1]",
        ("test_compilers.py", "log_is_read"),
    ),
    Fault(
        "compare/report/notes.py",
        'run.initial_weights != "random weights" for run',
        'run.initial_weights == "random weights" for run',
        ("test_transfer_training.py", "notes_say"),
    ),
    Fault(
        "commands/__init__.py",
        "return 2 if isinstance(error, UsageError) else 1",
        "return 1 if isinstance(error, UsageError) else 2",
        ("test_command.py", "unknown_command"),
    ),
]


def unfound(faults: Iterable[Fault] = FAULTS, root: Path = ROOT) -> list[str]:
    """Return the errors in a list of faults: texts that do not occur exactly once, and missing test files."""
    wrong = []
    for fault in faults:
        source, tests = root / PACKAGE / fault.file, root / "tests" / fault.tests[0]
        times = source.read_text("utf-8").count(fault.text) if source.is_file() else 0
        if times != 1:
            wrong.append(f"{fault.file}: {fault.text.strip()!r} is there {times} times, needed once")
        if not tests.is_file():
            wrong.append(f"{fault.file}: there is no tests/{fault.tests[0]}")
    return wrong


def rooms(root: Path = ROOT) -> set[str]:
    """Return the paths of all subpackages of `yolo_lite` that contain code, "" for the top level."""
    folders = {file.parent.relative_to(root / PACKAGE) for file in (root / PACKAGE).rglob("*.py")}
    return {"" if folder == Path() else folder.as_posix() for folder in folders}


def main(only: str = "", jobs: str = "1") -> int:
    """Plant the faults and print the outcome of each; return the exit status."""
    chosen = [fault for fault in FAULTS if not only or any(fault.file.startswith(each) for each in only.split(","))]
    wrong = unfound(chosen, ROOT)
    for line in wrong:
        print(line)
    if wrong or not chosen:
        return 1
    fitting: dict[str, set[str]] = {}
    for fault in chosen:
        fitting.setdefault(fault.tests[0], set()).add(f"({fault.tests[1]})")
    sound = [(file, " or ".join(sorted(which))) for file, which in fitting.items()]
    with ThreadPoolExecutor(int(jobs)) as pool:
        for status, text in pool.map(run, sound):
            if status:
                print(f"{text}\nthese tests have to pass before a fault is planted")
                return 1
    survived = 0
    with ThreadPoolExecutor(int(jobs)) as pool:
        for fault, (status, text) in zip(chosen, pool.map(lambda fault: run(fault.tests, fault), chosen), strict=True):
            outcome = {FAILED: "killed", 0: "SURVIVED"}.get(status, f"NOT RUN, pytest ended with {status}")
            survived += status != FAILED
            print(f"{outcome:10} {fault.file}: {fault.text.strip()} -> {fault.fault.strip()}", flush=True)
            if status not in (0, FAILED):
                print(text)
    print(f"{len(chosen) - survived} of {len(chosen)} faults are killed")
    return 1 if survived else 0


def _made(path: str) -> tuple[str, ...]:
    return MADE if Path(path) == ROOT else ()


def run(tests: tuple[str, str], fault: Fault | None = None) -> tuple[int, str]:
    """Run tests in a copy of the tree, with a fault if one is given; return pytest's exit status and output."""
    file, which = tests
    with tempfile.TemporaryDirectory(prefix="yolo_lite_fault_") as folder:
        copy = Path(folder, "tree")
        shutil.copytree(ROOT, copy, ignore=lambda path, names: {*LEFT_OUT(path, names), *_made(path)})
        if fault is not None:
            source = copy / PACKAGE / fault.file
            source.write_text(source.read_text("utf-8").replace(fault.text, fault.fault), "utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0", f"tests/{file}"]
        try:
            process = subprocess.run(
                [*command, "-k", which],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            return -1, f"more than {LONGEST} seconds"
    return process.returncode, process.stdout[-3000:]


if __name__ == "__main__":
    sys.exit(main(**dict(word.split("=", 1) for word in sys.argv[1:])))
