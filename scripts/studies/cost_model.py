"""How well `yolo-lite choose` tells times from what layers do: predicted against measured, for models not in the fit.

    python scripts/studies/cost_model.py [runtimes=onnxruntime,openvino] [threads=1] [imgsz=640] [folder=runs]
        measure what is left, and write docs/cost-model.csv and its table in docs/choose.md; docs= writes neither
    python scripts/studies/cost_model.py collect
        write the table from docs/cost-model.csv again

The cost model is fitted to 36 candidates as a search does it, and judged by 60 others, of which 20 have a backbone or a
neck that no fitted model has. All are measured interleaved, as ratios to one candidate; run it on a quiet machine. What
was measured is kept in the folder: the same command goes on.
"""

import copy
import csv
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import spearmanr
from ultralytics.nn.tasks import DetectionModel

from yolo_lite.choose.candidates import BASES, Candidate, buildable, space
from yolo_lite.choose.cost_model import CostModel, Work, at_size, fit, work
from yolo_lite.choose.timing import FIRST, Device, Timings, spread
from yolo_lite.cost import cost
from yolo_lite.files import between, write
from yolo_lite.output import errors_only

ROOT = Path(__file__).resolve().parents[2]
NEW_BACKBONES = ("mnasnet_100", "shufflenet_v2_x1_0")  # in no fitted model, nor this neck
NEW_NECK = "slim"
POOL, KNOWN, NEW = 140, 40, 20  # candidates looked at besides the new ones, and held back of each kind
COLUMNS = ("runtime", "group", "candidate", "measured", "predicted", "gflops")
GROUPS = {"known": "backbones and necks of the fit", "new": "others", "": "all"}


def main(words: Sequence[str]) -> int:
    """Measure and write, as the command line says; return the exit status."""
    given = {"runtimes": "onnxruntime,openvino", "threads": "1", "imgsz": "640", "folder": "runs"}
    given |= {"docs": str(ROOT / "docs")} | dict(word.split("=", 1) for word in words if "=" in word)
    if "collect" not in words:
        rows = list(measured(given, Path(given["folder"]).absolute()))
        if given["docs"]:
            with (Path(given["docs"]) / "cost-model.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        else:
            print(*table([dict(zip(COLUMNS, map(str, row), strict=True)) for row in rows]), sep="\n")
    if given["docs"]:
        page = Path(given["docs"]) / "choose.md"
        write(page, between(page.read_text("utf-8"), "cost-model", findings(Path(given["docs"]))))
    return 0


def measured(given: Mapping[str, str], folder: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the table of candidates held back."""
    imgsz = int(given["imgsz"])
    works: dict[Candidate, Work] = {}
    gflops: dict[Candidate, float] = {}
    for each, text in sample(imgsz):
        done, flops = described(folder / "cost-model" / f"{each.name}.yaml", text, each, imgsz)
        works[each], gflops[each] = at_size(done, each.imgsz / imgsz), flops * (each.imgsz / imgsz) ** 2
        print(f"{len(works)} built", end="\r", flush=True)
    old = {each: done for each, done in works.items() if not is_new(each)}
    reference = reference_of(imgsz)
    fitted = list(dict.fromkeys([reference, *spread(old, FIRST)]))[:FIRST]
    rest = [each for each in old if each not in fitted][:KNOWN]
    held = [*rest, *[each for each in works if is_new(each)][:NEW]]
    for runtime in given["runtimes"].split(","):
        device = Device(runtime, int(given["threads"]))
        timings = Timings(folder / "cost-model" / f"{runtime}.json", reference, folder / "cost-model", device, print)
        timings.measure([*fitted, *held])
        times = timings.known
        model: CostModel = fit(
            [works[each] for each in fitted if each.label in times],
            [times[each.label] for each in fitted if each.label in times],
        )
        for each in held:
            if each.label in times:
                found = times[each.label], model.predict(works[each]), gflops[each]
                yield runtime, "new" if is_new(each) else "known", each.label, *(f"{value:.4g}" for value in found)


def reference_of(imgsz: int) -> Candidate:
    """Return the candidate that all are measured with."""
    return Candidate(BASES[0], "n", imgsz)


def is_new(candidate: Candidate) -> bool:
    """Tell whether a candidate has a part that no fitted model has."""
    return candidate.backbone in NEW_BACKBONES or candidate.neck == NEW_NECK


def sample(imgsz: int) -> Iterator[tuple[Candidate, str]]:
    """Yield candidates in a random order, stock ones among them, with their YAMLs."""
    every = space(imgsz)
    random.Random(0).shuffle(every)
    every.sort(key=lambda each: each != reference_of(imgsz))
    kinds = {False: POOL, True: NEW}
    for each, text in buildable(every):
        if kinds[is_new(each)]:
            kinds[is_new(each)] -= 1
            yield each, text
        if not any(kinds.values()):
            return


def described(file: Path, text: str, candidate: Candidate, imgsz: int) -> tuple[Work, float]:
    """Write a candidate's YAML; return what it does for an image of the largest size, and its GFLOPs."""
    write(file, text)
    with errors_only():
        model = DetectionModel({**yaml.safe_load(text), "scale": candidate.scale}, verbose=False).eval()
        model = model.fuse(verbose=False)
    return work(copy.deepcopy(model), imgsz), cost(model, imgsz)[1]  # a head keeps the anchors of its last image


def findings(docs: Path = ROOT / "docs") -> list[str]:
    """Return the page's table."""
    with (docs / "cost-model.csv").open(newline="", encoding="utf-8") as file:
        return table(list(csv.DictReader(file)))


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a row for each runtime and group."""
    lines = [
        "| runtime | models held back | count | Spearman | of GFLOPs alone | median error | 9 of 10 within |",
        "|---" * 7 + "|",
    ]
    for runtime in dict.fromkeys(row["runtime"] for row in rows):
        for group, name in GROUPS.items():
            found = [row for row in rows if row["runtime"] == runtime and group in (row["group"], "")]
            if not found:
                continue
            took, told, flops = (np.array([float(row[key]) for row in found]) for key in COLUMNS[3:])
            errors = np.abs(told / took - 1)
            ranks = [f"{spearmanr(each, took).statistic:.3f}" for each in (told, flops)]
            ends = [f"{100 * np.quantile(errors, part):.1f} %" for part in (0.5, 0.9)]
            lines.append(f"| {' | '.join([runtime, name, str(len(found)), *ranks, *ends])} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
