"""Parts of a model search: candidates, their estimated cost, held-out images, successive halving."""

import csv
import random
import shutil
import statistics
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT
from torch import nn
from ultralytics import YOLO

from yolo_lite.choose import candidates, cost_model, held_out, schedule, timing
from yolo_lite.choose.candidates import Candidate
from yolo_lite.compare import baselines, significance
from yolo_lite.compare.report.recommendation import Candidate as Compared
from yolo_lite.compare.report.recommendation import recommend
from yolo_lite.datasets.images import check_data
from yolo_lite.errors import ConfigError
from yolo_lite.files import write
from yolo_lite.ultralytics_hooks.configs import configs

# Cost -----------------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.SiLU(), nn.Conv2d(32, 32, 5, 1, 2, groups=32), nn.ReLU(), nn.Conv2d(32, 64, 1)
        )

    def forward(self, x):
        return self.layers(x)


def test_work_is_what_the_layers_do():
    done = cost_model.work(Net(), 64)
    values = 32 * 32  # values per channel of a feature map
    assert done["narrow dense"] == pytest.approx(values * 32 * 3 * 9 / 1e6)
    assert done["depthwise 5"] == pytest.approx(values * 32 * 25 / 1e6)
    assert done["pointwise"] == pytest.approx(values * 64 * 32 / 1e6)
    assert done["SiLU values"] == pytest.approx(values * 32 / 1e6) and "ReLU values" not in done
    assert done["written by convolutions"] == pytest.approx(values * (32 + 32 + 64) / 1e6)
    assert (done["convolutions"], done["other calls"]) == (3, 1)


def test_work_at_another_size_is_what_it_is_counted_there():
    found = cost_model.at_size(cost_model.work(Net(), 64), 96 / 64)
    assert found == pytest.approx(cost_model.work(Net(), 96))


def test_prices_are_found_again():
    generator = np.random.default_rng(0)
    true = {"a": 0.5, "b": 2.0, "c": 0.0}
    works = [dict(zip(true, generator.uniform(1, 100, 3), strict=True)) for _ in range(20)]
    times = [sum(true[kind] * amount for kind, amount in each.items()) for each in works]
    found = cost_model.fit(works, times)
    assert found.prices == pytest.approx(true, abs=1e-6) and found.error < 1e-6 and found.worst < 1e-6
    assert found.predict({"a": 2, "b": 1, "never seen": 5}) == pytest.approx(3.0)
    noisy = cost_model.fit(works, [each * factor for each, factor in zip(times, [0.9, 1.1] * 10, strict=True)])
    assert 0.05 < noisy.error < 0.2 and min(noisy.prices.values()) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_times_of_the_shipped_configs_are_told(runtime):
    """Those that bench_configs.py measured, each told from all the others."""
    from yolo_lite.cost import _shapes_only

    times = {}
    for row in csv.DictReader((ROOT / "docs/latency.csv").open(encoding="utf-8")):
        if (row["runtime"], row["threads"], row["precision"]) == (runtime, "1", "fp32") and "timm" not in row["model"]:
            times.setdefault(row["model"], []).append(float(row["p50"]))
    works = [cost_model.work(_shapes_only(YOLO(f"{name}.yaml").model), 640) for name in times]
    found = cost_model.fit(works, [statistics.median(each) for each in times.values()])
    assert len(works) > 50 and found.error < 0.1


# Candidates -----------------------------------------------------------------------------------------------------------


def test_candidates_are_many_and_each_has_a_name_of_its_own():
    found = candidates.space(320)
    assert len(found) > 500 and len({each.label for each in found}) == len(found)
    assert {each.imgsz for each in found} == {320, 256, 192}
    assert Candidate("yolo26", "s", 320) in found and Candidate("yolov8", "n", 256, width=0.5) in found


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("yolo11", "n", 320),
        Candidate("yolov8", "n", 320, width=0.625),
        Candidate("yolo26", "s", 320, "mobilenetv4_conv_small", 0.5, "light", "slim"),
        Candidate("yolov8", "n", 320, "shufflenet_v2_x1_0", 0.75, "slim", "slim"),
        Candidate("yolo26", "s", 320, "lite", neck="shipped", head="shipped"),
    ],
    ids=lambda each: each.label,
)
def test_a_candidate_is_a_yaml(candidate, tmp_path):
    path = tmp_path / f"{candidate.name}.yaml"
    write(path, candidate.text())
    model = YOLO(path)
    assert model.task == "detect" and sum(p.numel() for p in model.model.parameters()) < 12e6
    assert model.model.yaml["scale"] in (candidate.scale, "")


def test_our_detection_configs_are_candidates():
    found = [each for each in candidates.space(320) if each.family == candidates.SHIPPED and each.imgsz == 320]
    names = {each.name for each in found}
    assert {"yolo26s-lite", "yolo26n-lite", "yolov8n-mnv4-extradw", "yolo11n-ghostnet"} <= names
    assert not {name for name in names if name.rpartition("-")[2] in ("seg", "pose", "obb", "timm")}
    assert all(each.text() == configs()[f"{each.base}-{each.backbone}.yaml"].read_text("utf-8") for each in found)
    few = candidates.space(320, backbones=["csplite_100"])
    assert few and not [each for each in few if each.family == candidates.SHIPPED]


def test_shrunk_models_have_the_same_yaml_as_baselines(tmp_path):
    path = baselines.write_yaml(baselines.shrunk("yolov8n", 0.5), tmp_path)
    assert path.read_text("utf-8") == Candidate("yolov8", "n", 640, width=0.5).text()
    path = baselines.write_yaml(baselines.shrunk("yolov8n", 0.5), tmp_path, pretrained=True)
    assert path.read_text("utf-8") == Candidate("yolov8", "n", 640, width=0.5).text(pretrained=True)


def test_what_is_measured_is_spread_and_near_the_budget():
    found = [each for each in candidates.space(320) if each.imgsz == 320]
    works = {each: {"a": float(number)} for number, each in enumerate(found)}
    chosen = timing.spread(works, 40)
    assert len({*chosen}) == 40 and len({each.family for each in chosen}) == len({each.family for each in found})
    predicted = {each: float(number) for number, each in enumerate(found)}
    near = timing.within(predicted, 500, 40, error=0.25)
    slowest = {}
    for each in found[:401]:  # the others are probably over the budget
        slowest[each.family] = each
    assert len({*near}) == 40 and {*slowest.values()} <= {*near} <= {*found[:401]}
    assert sum(predicted[each] < 300 for each in near) >= 5
    assert len(timing.within(predicted, 5, 20)) == 6
    assert sorted(predicted[each] for each in timing.within(predicted, 90, 94)) == [*range(94)]  # a few beyond it
    with pytest.raises(ConfigError, match="budget=2ms: the fastest of the candidates takes about 7.0 ms"):
        timing.check_budget([9, 7], 2)


def test_times_are_ratios_to_one_candidate(tmp_path, monkeypatch):
    """A machine that is twice as slow when the second lot is measured."""
    slowness = iter([1.0, 1.0, 2.0])

    def measure(names, runtimes, threads, sizes, seconds, folder, data, say):
        factor = next(slowness)
        rows = [
            SimpleNamespace(model=label, p50=factor * sizes[label], control=False, precision="fp32") for label in names
        ]
        return [*rows, SimpleNamespace(model=rows[0].model, p50=9, control=True, precision="fp32")]

    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr(timing, "BATCH", 2)
    reference, *others = (Candidate("yolov8", "n", size) for size in (64, 96, 128, 160, 192))
    found = timing.Timings(tmp_path / "latency.json", reference, tmp_path, timing.Device(), print)
    found.measure(others)
    assert found.references == [64, 64, 128]  # alone, then in each batch
    assert found.known == {each.label: each.imgsz for each in (reference, *others)}
    again = timing.Timings(tmp_path / "latency.json", reference, tmp_path, timing.Device(), print)
    again.measure(others)  # nothing is measured twice
    assert again.known == found.known


# Held-out images ------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    """Write 30 images, 10 of which are near-duplicates of another one; return their paths."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(20):
        small = generator.integers(0, 255, (8, 9, 3), np.uint8)
        image = cv2.resize(small, (90, 80), interpolation=cv2.INTER_NEAREST)
        for copy in range(2 if number < 10 else 1):
            files.append(tmp_path / f"{number:02}-{copy}.png")
            cv2.imwrite(str(files[-1]), np.clip(image.astype(int) + 3 * copy, 0, 255).astype(np.uint8))
    return files


def test_images_that_are_nearly_the_same_stay_together(images):
    kept, held = held_out.split(images, seed=1)
    assert len(kept) + len(held) == 30 and 4 <= len(held) <= 7
    assert not {each.name[:2] for each in kept} & {each.name[:2] for each in held}
    assert held_out.split(images, seed=1) == (kept, held) != held_out.split(images, seed=2)


def test_a_large_group_of_similar_images_is_not_held_out(tmp_path):
    """A camera that does not move: of 12 images, 8 are alike and 4 are not."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(5):
        image = cv2.resize(generator.integers(0, 255, (8, 9, 3), np.uint8), (90, 80), interpolation=cv2.INTER_NEAREST)
        for copy in range(8 if number == 0 else 1):
            files.append(tmp_path / f"{number}-{copy}.png")
            cv2.imwrite(str(files[-1]), image)
    for seed in range(10):
        held = held_out.split(files, seed)[1]
        assert held and not any(file.name.startswith("0-") for file in held)
    alike = files[:8] + [files[8]]
    assert held_out.split(alike)[1] == [files[8]]


@pytest.fixture
def whole(tmp_path, images):
    """Write a dataset with the images, a label for each but one, and one listed image missing; return its YAML."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number, file in enumerate(images):
        file.rename(tmp_path / "images" / file.name)
        if number:
            (tmp_path / "labels" / f"{file.stem}.txt").write_text(f"0 0.5 0.5 0.5 0.{number + 10}\n")
    listed = [f"./images/{file.name}" for file in images] + ["./images/missing.png"]
    (tmp_path / "train.txt").write_text("\n".join(listed))
    content = {"path": str(tmp_path), "train": "train.txt", "val": "images", "names": {0: "a"}}
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "whole.yaml"


def test_the_dataset_to_choose_by(whole, tmp_path):
    """Each image once, with its own label; the caches of labels are not those of the dataset."""
    path = held_out.dataset(str(whole), tmp_path / "inner")
    found = check_data(path)
    assert found["names"] == {0: "a"}
    links = {split: sorted(Path(found[split]).iterdir()) for split in ("train", "val")}
    assert 4 <= len(links["val"]) <= 7
    originals = [link.resolve() for each in links.values() for link in each]
    assert sorted(originals) == sorted((tmp_path / "images").iterdir())
    for link in (link for each in links.values() for link in each):
        own, theirs = held_out.labels_of(link), held_out.labels_of(link.resolve())
        assert own.exists() == theirs.exists() and (not own.exists() or own.read_text() == theirs.read_text())
        assert own.is_relative_to(tmp_path / "inner/labels")
    assert {file.name for file in (tmp_path / "inner/labels").glob("*.cache")} == {"train.cache", "val.cache"}
    before = path.stat().st_mtime_ns
    assert held_out.dataset(str(whole), tmp_path / "inner") == path and path.stat().st_mtime_ns == before


def test_the_dataset_to_choose_by_is_written_again_after_a_move(whole, tmp_path):
    held_out.dataset(str(whole), tmp_path / "inner")
    (tmp_path / "inner").rename(tmp_path / "moved")
    for data, folder in ((whole, "moved"), (tmp_path / "elsewhere/whole.yaml", "moved")):
        if not data.exists():
            shutil.copytree(tmp_path, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("moved", "elsewhere"))
            content = yaml.safe_load(data.read_text()) | {"path": str(data.parent)}
            data.write_text(yaml.safe_dump(content))
        path = held_out.dataset(str(data), tmp_path / folder)
        found = check_data(path)
        assert all(link.resolve().is_relative_to(data.parent / "images") for link in Path(found["train"]).iterdir())


def test_images_are_copied_where_links_are_not_possible(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("privilege")))
    found = check_data(held_out.dataset(str(whole), tmp_path / "inner"))
    assert all(file.is_file() and not file.is_symlink() for file in Path(found["train"]).iterdir())


@pytest.mark.parametrize("count", [1, 2])
def test_images_that_cannot_be_split(images, count):
    with pytest.raises(ConfigError, match=f"its {count} training images are too few, or too similar"):
        held_out.split(images[:count])  # the first two are near-duplicates


# Search ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def search():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from yolo_lite.choose import search

    return search


def parts(count):
    return {f"c{number}": {"base": "ab"[number % 2], "width": number // 2} for number in range(count)}


def test_halving_goes_on_with_a_half(search):
    found = search.Search(parts(32), [1, 2, 4], first=32)
    scores = dict(zip(parts(32), random.Random(0).sample(range(32), 32), strict=True))
    trained = {1: [], 2: [], 4: []}
    while (step := found.next()) is not None:
        assert step.done in (0, step.epochs // 2)
        trained[step.epochs].append(step.candidate)
        found.report(step, scores[step.candidate] + step.epochs)
    assert sorted(trained[1]) == sorted(parts(32)) and 12 <= len(trained[2]) <= 22 and 5 <= len(trained[4]) <= 15
    assert scores[found.ranking()[0]] == 31 and len(found.ranking()) == 32


def test_a_failed_candidate_is_out_and_the_rest_goes_on(search):
    found = search.Search(parts(6), [1, 3], first=6)
    failed = found.next()
    found.fail(failed, "out of memory")
    while (step := found.next()) is not None:
        assert step.candidate != failed.candidate
        found.report(step, 1.0)
    assert failed.candidate not in found.ranking() and len(found.ranking()) == 5


def test_a_killed_search_goes_on(search, tmp_path):
    """Nothing that was reported is trained again, what was under way is."""
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    first = search.Search(parts(6), [1, 3], first=6, storage=storage)
    done = [first.next() for _ in range(3)]
    first.report(done[0], 5.0)
    again = search.Search(parts(6), [1, 3], first=6, storage=storage)
    steps = []
    while (step := again.next()) is not None:
        steps.append((step.candidate, step.epochs))
        again.report(step, 1.0)
    assert (done[0].candidate, 1) not in steps and (done[0].candidate, 3) in steps
    assert {(each.candidate, 1) for each in done[1:]} <= {*steps} and len({*steps}) == len(steps)
    assert sorted(again.ranking()) == sorted(parts(6)) and again.ranking()[0] == done[0].candidate


def test_a_search_killed_between_two_writes_goes_on(search, tmp_path):
    """A result was written, what follows from it was not: the trial is complete, or has failed."""
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    first = search.Search(parts(3), [1, 2], first=3, storage=storage)
    step = first.next()
    first.report(step, 1.0)
    last = first.next()
    assert (last.candidate, last.done) == (step.candidate, 1)
    first.working[last.trial].report(2.0, 2)
    broken = first.next()
    first.working[broken.trial].set_user_attr("failed", "out of memory")
    again = search.Search(parts(3), [1, 2], first=3, storage=storage)
    assert again.ranking() == [step.candidate] and again.tried()[broken.candidate] == (0, None, "out of memory")
    other = again.next()
    assert {step.candidate, broken.candidate, other.candidate} == {*parts(3)}
    again.report(other, 0.0)
    assert [state.name for state in sorted(trial.state for trial in again.study.trials)].count("COMPLETE") == 1


def test_candidates_beyond_the_first_are_chosen_by_the_sampler(search):
    """It learns that wide ones are better."""
    found, order = search.Search(parts(60), [1], first=20, seed=3), []
    while len(order) < 40:
        step = found.next()
        order.append(int(step.candidate[1:]))
        found.report(step, float(step.candidate[1:]))
    assert order[:20] == list(range(20)) and len({*order}) == 40
    assert statistics.mean(order[20:]) > 40.5  # mean index of the remaining candidates is 39.5


def planted(search, seed, count=100, spread=3.0):
    """Simulate a search among candidates of known accuracies.

    Args:
        search: Module under test.
        seed: Random seed.
        count: Number of candidates; their latencies do not depend on their accuracies.
        spread: Standard deviation of the accuracies, in points; the noise between seeds is one point.

    Returns:
        (tuple): How far the recommended candidate is from the best, in points; how far the more accurate of the last
            two is; whether the recommended one is the cheaper of these; the part of training everything that was spent.
    """
    generator, epochs, pace = np.random.default_rng(seed), 27, schedule.Pace(0, 1)
    time = count * epochs / 3
    rungs = schedule.rungs_within(time - schedule.reserve(time, pace, epochs, 1), pace, count, epochs, 1)
    assert len(rungs) == 4
    truth, cost = generator.normal(0, spread, count), generator.random(count)
    misleads = generator.normal(0, 1, count)  # systematic error of short runs, smaller for longer runs
    likeness = [0.7 + 0.08 * np.log(done / rungs[0]) / np.log(3) for done in rungs]  # correlation with the truth
    scale = {done: (9 / like**2 - 9 - 1) ** 0.5 for done, like in zip(rungs, likeness, strict=True)}
    found = search.Search({f"c{number}": {"number": number} for number in range(count)}, rungs, count, seed=seed)
    trained = 0
    while (step := found.next()) is not None:
        number, trained = int(step.candidate[1:]), trained + step.epochs - step.done
        found.report(step, truth[number] + scale[step.epochs] * misleads[number] + generator.normal(0, 1))
    finals = schedule.finals_within(time - trained, [pace] * count, epochs, 1)
    ranking = [int(label[1:]) for label in found.ranking()[: finals.candidates]]
    runs = {number: {0: truth[number] + generator.normal(0, 1)} for number in ranking}
    trained += finals.candidates * epochs
    last = sorted(runs, key=lambda number: -runs[number][0])[: schedule.LAST]
    seeds = schedule.seeds_within(time - trained, [pace] * len(last), epochs, 1)
    for number in last:
        runs[number] |= {seed: truth[number] + generator.normal(0, 1) for seed in range(1, seeds)}
    trained += len(last) * (seeds - 1) * epochs
    means = {number: statistics.mean(runs[number].values()) for number in last}
    best = max(means, key=means.get)
    differences = significance.differences(runs, {number: best for number in last if number != best})
    chosen = recommend(
        {number: Compared(100 + means[number], cost[number], (), differences.get(number)) for number in last}
    ).model
    gaps = (truth.max() - truth[number] for number in (chosen, best))
    return *gaps, chosen == min(last, key=lambda number: cost[number]), trained / (count * epochs)


def test_a_planted_answer_is_found(search):
    gaps, of_best, _, spent = zip(*(planted(search, seed) for seed in range(12)), strict=True)
    assert sum(gap <= 1 for gap in gaps) >= 9 and sum(gap <= 1 for gap in of_best) >= 10
    assert max(spent) < 0.34


def test_of_equal_finalists_the_cheaper_is_recommended(search):
    assert sum(planted(search, seed, spread=0.0)[2] for seed in range(12)) >= 10
