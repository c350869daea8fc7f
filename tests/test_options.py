"""Option definitions: parsing, refusals, and their consistency with the pages and the command's help."""

from pathlib import Path

import pytest

from yolo_lite.arguments import checked, parse, read, settings
from yolo_lite.errors import ConfigError, UsageError
from yolo_lite.options import COMMANDS, REQUIRED

NEEDED = {"compare": {"models": "a,b", "data": "x.yaml"}, "bench": {"models": "a"}}


@pytest.mark.parametrize(("name", "option"), [(name, each) for name, c in COMMANDS.items() for each in c.options])
def test_every_example_and_default_is_a_value(name, option):
    value = read(name, {option.name: option.example.strip("'")})[option.name]
    assert option.kind.check(option.name, value) == value
    if option.default not in (None, "", REQUIRED):
        assert option.kind.holds(option.kind.form(option.default))
    with pytest.raises(ConfigError, match=f"^{option.name} has to be .*, found "):
        option.kind.check(option.name, object())


def test_command_line_python_and_file_give_the_same(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("models: [a, b.pt]\nthreads: 1,2\nseconds: 0.5\n")
    words = checked("bench", settings("bench", ["models=a, b.pt", "threads=1,2", "seconds=0.5"]))
    assert words == checked("bench", {"models": ("a", "b.pt"), "threads": [1, 2], "seconds": 0.5})
    assert words == checked("bench", settings("bench", [str(file)]))
    assert words["imgsz"] == 640 and words["int8"] is False and words["out"] is None
    assert checked("bench", settings("bench", [str(file), "threads=4"]))["threads"] == [4]
    assert checked("make", {"out": Path("a.yaml")})["out"] == "a.yaml"


def test_values_by_name():
    assert read("make", {"width": "n:0.5, s:1"}) == {"width": {"n": 0.5, "s": 1}}
    assert read("make", {"width": "0.5", "scale": "None"}) == {"width": 0.5, "scale": None}
    file = {"file": "a.pth", "mean": [0, 0, 0]}
    assert read("make", {"weights": "{file: a.pth, mean: [0, 0, 0]}"}) == {"weights": file}
    seeds = {"all": "0,1", "yolov8n": 3}
    assert checked("compare", {**NEEDED["compare"], "seeds": seeds})["seeds"] == {"all": [0, 1], "yolov8n": [3]}


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("make", {"neck": "asp"}, "one of base, aspp, lraspp, extradw, slim, light, found 'asp'; did you mean 'aspp'"),
        ("make", {"width": {"n": 0}}, "width has to be a finite number above 0, or a value for each scale, found"),
        ("make", {"width": float("nan")}, "found nan; for example width=n:0.5,s:1"),
        ("make", {"width": {}}, "found {}"),
        ("make", {"imgsz": 100.0}, "imgsz has to be a multiple of 32, found 100.0; the nearest is 96"),
        ("make", {"edge": 1}, "edge has to be True or False, found 1"),
        ("make", {"nek": "aspp"}, "make has no nek=; did you mean 'neck'?"),
        ("make", {"note": 5}, "note has to be a text, found 5"),
        ("bench", {}, "bench needs models=, comma-separated names"),
        ("bench", {"models": []}, "models has to be comma-separated names, found []"),
        ("bench", {"threads": "1,1"}, "threads has to be comma-separated whole numbers above 0, found '1,1'; 1 is"),
        ("bench", {"threads": True}, "threads has to be comma-separated whole numbers above 0, found True"),
        ("bench", {"seconds": float("inf")}, "seconds has to be a finite number above 0, found inf"),
        ("compare", {"seeds": [-1]}, "seeds has to be comma-separated whole numbers from 0 to 2147483647"),
        ("compare", {"seeds": "0,one"}, "found '0,one'; for example seeds=0,1,2"),
        ("compare", {"seeds": 2**31}, "found 2147483648"),
        ("compare", {"gpus": -1}, "gpus has to be a finite number from 0, found -1"),
        (
            "compare",
            {"match": "flops"},
            "match has to be one of gflops, latency, found 'flops'; did you mean 'gflops'?",
        ),
        ("compare", {"name": 5 * [10**100]}, "..."),
    ],
)
def test_refused(command, given, said):
    with pytest.raises(ConfigError) as error:
        checked(command, {**NEEDED.get(command, {}), **given} if given else {})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["width=n:0.5,s"], "width has to be a finite number above 0, or a value for each scale, found 'n:0.5,s'"),
        (["edge=yes"], "edge has to be True or False, found 'yes'; for example edge=True"),
        (["keys={a: [}"], "keys has to be a mapping of keys to values, found '{a: [}'; for example keys="),
        (
            ["max_gflops=three"],
            "max_gflops has to be a finite number above 0, found 'three'; for example max_gflops=3.0",
        ),
    ],
)
def test_refused_words(words, said):
    with pytest.raises(ConfigError) as error:
        parse("make", words)
    assert said in str(error.value) and not isinstance(error.value, UsageError)


def test_refused_files(tmp_path):
    file = tmp_path / "list.yaml"
    file.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="list.yaml: expected settings of yolo-lite make, key: value, found list"):
        settings("make", [str(file)])
    with pytest.raises(ConfigError, match="lost.yaml: .*No such file"):
        settings("make", ["lost.yaml"])


def test_runtimes_are_those_that_there_are():
    from yolo_lite.bench.runtimes import RUNTIMES

    line = next(option.help for option in COMMANDS["bench"].options if option.name == "runtimes")
    assert line.startswith(f"any of {', '.join(RUNTIMES)};")


def test_pages_have_the_table(script):
    assert script("option_tables").check() == []
