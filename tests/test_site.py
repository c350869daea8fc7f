"""Documentation pages: links resolve, documented commands are valid, and tables match their sources."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from yolo_lite import arguments, options
from yolo_lite.compare import settings as compare

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)


def anchors(text):
    """Return the anchors of a page's headings, as Python-Markdown makes them."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain.replace("`", "")).strip().lower()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text("utf-8")
    for groups in LINK.findall(FENCE.sub("", text)):
        target, _, anchor = next(filter(None, groups)).partition("#")
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        other = page.parent / target if target else page
        assert other.exists(), f"{page.name}: {target}"
        if anchor and other.suffix == ".md":
            assert anchor in anchors(other.read_text("utf-8")), f"{page.name}: {target}#{anchor}"


def commands():
    for page in PAGES:
        for block in FENCE.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|;", line.partition(" #")[0]):
                    words = part.strip().removeprefix("!").strip()
                    if words.startswith("yolo-lite "):
                        yield pytest.param(words, id=f"{page.name}: {words}")


@pytest.mark.parametrize("command", [*dict.fromkeys(commands())])
def test_commands_are_understood(command):
    name, *words = shlex.split(command.removeprefix("yolo-lite "))
    if name == "COMMAND" or "..." in words or "--help" in words or re.search(r"[\[\]|]", command):
        return
    assert name in (*options.COMMANDS, "help")
    if name == "help":
        return
    if options.COMMANDS[name].trains:
        file, found = compare.parse(words, name)
        compare.check_names(name, found, {})
    else:
        arguments.parse(name, words)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = re.findall(r"[\w-]+\.md\b", str(yaml.safe_load(text)["nav"]))
    assert sorted(named) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_table_of_which_model_is_that_of_the_configs_by_time(script):
    def lines(page):
        return page.read_text("utf-8").splitlines()

    configs = script("configs")
    names = {configs.at_n(name) for name in configs.shipped() if configs.in_readme(name)}
    shown = [line for line in lines(DOCS / "configs.md") if line.startswith("| `") and line.split("`")[1] in names]
    table = configs.by_time(shown)
    start = lines(DOCS / "which.md").index("<!-- cpu -->") + 1
    assert lines(DOCS / "which.md")[start : start + len(table)] == table and len(table) > 10
    times = [float(line.split("|")[2].strip(" *")) for line in table[2:]]
    assert times == sorted(times)


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 700


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("zensical")
    for part in ("mkdocs.yml", "CHANGELOG.md"):  # the site is built next to mkdocs.yml
        shutil.copy(ROOT / part, tmp_path)
    for part in ("docs", "yolo_lite"):
        shutil.copytree(ROOT / part, tmp_path / part)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "create_backbone" in (tmp_path / "site/python/index.html").read_text("utf-8")
