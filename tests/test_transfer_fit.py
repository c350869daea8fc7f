"""Weight transfer to another architecture: exact where possible, refused where impossible, never silent."""

import itertools

import pytest
import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite.errors import ConfigError
from yolo_lite.weights import roles, transfer
from yolo_lite.weights.head_targets import box_targets, class_rows
from yolo_lite.weights.mimicking import mimic
from yolo_lite.weights.regression import Moments, choose, solve

NAMES = {0: "disc", 1: "box", 2: "ring"}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch):
    monkeypatch.setattr("yolo_lite.weights.sampling.PIXELS", 3000)


def images(count=8, size=64, channels=3, seed=0):
    """Return smooth made-up images; (N, C, H, W), uint8."""
    noise = torch.rand(count, channels, size // 8, size // 8, generator=torch.Generator().manual_seed(seed))
    return (nn.functional.interpolate(noise, size=size, mode="bilinear") * 255).to(torch.uint8)


def build(name, seed=0, names=NAMES, **keys):
    torch.manual_seed(seed)
    model = DetectionModel({**yaml_model_load(name), **keys}, nc=len(names), verbose=False)
    model.names = dict(names)
    return model


def lively(model, seen=None):
    """Give every layer outputs of about unit variance and channels that differ, as in a trained model."""
    seen = images(8, 128, seed=1) if seen is None else seen
    torch.manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = None
    with torch.no_grad():
        model.train()(seen.float() / 255)
    return model.eval()


def decoded(model, size=128):
    with torch.no_grad():
        return model.eval()(images(2, size, seed=7).float() / 255)[0]


def widened(small, large):
    """Make a model compute what one of half its channels does: each channel twice."""
    theirs = small.state_dict()
    for name, value in large.state_dict().items():
        given = theirs[name]
        if value.shape == given.shape:
            value.copy_(given)
            continue
        for axis in range(min(value.ndim, 2)):
            ratio = value.shape[axis] // given.shape[axis]
            given = given.repeat_interleave(ratio, axis) / (ratio if axis == 1 else 1)
        value.copy_(given)
    return large


@pytest.mark.core
def test_the_same_architecture_gives_the_sources_outputs():
    source, target = lively(build("yolov8n.yaml")), build("yolov8n.yaml", 1)
    done = transfer.transfer(source, target, images())
    assert torch.equal(decoded(target), decoded(source))
    assert done.count("copied") == len(done.fits) > 60


@pytest.mark.core
def test_what_has_no_room_for_is_recovered_where_the_rest_says_it():
    """The source's channels are all there twice, so half of them are enough: every fit is exact."""
    half = {"scales": {"n": [0.33, 0.125, 1024]}}
    small, target = (build("yolov8n.yaml", seed, **half) for seed in (0, 1))
    source = widened(lively(small), build("yolov8n.yaml", 2)).eval()
    assert (decoded(source) - decoded(small)).abs().max() < 0.05  # pixels, with coordinates up to 670: rounding error
    done = transfer.transfer(source, target, images(24, size=256))
    assert done.count("fitted") == len(done.fits)
    assert max(fit.error for fit in done.fits) < 1e-6
    ours, theirs = (decoded(model, size=256) for model in (target, source))
    assert (ours[:, 4:] - theirs[:, 4:]).abs().max() < 1e-2
    assert (ours[:, :4] - theirs[:, :4]).abs().max() < 1.0  # pixels, at image size 256


def test_a_fitted_model_computes_the_same_in_training_mode():
    """BatchNorm has the fitted maps' own statistics, so nothing is lost when training begins."""
    seen = images(size=128)  # running variances are unbiased, which makes a difference with few pixels
    source, target = lively(build("yolov8n.yaml"), seen), build("yolo26s-lite.yaml", 1)
    done = transfer.transfer(source, target, seen)
    fitted = {f"{fit.name}.bn" for fit in done.fits if fit.how == "fitted"}
    norms = {name: each for name, each in target.named_modules() if isinstance(each, nn.BatchNorm2d)}
    before = {name: (each.running_mean.clone(), each.running_var.clone()) for name, each in norms.items()}
    for each in norms.values():
        each.momentum = 1.0
    with torch.no_grad():
        target.train()(seen.float() / 255)
    assert len(fitted & norms.keys()) > 40
    for name in fitted & norms.keys():
        each = norms[name]
        mean, variance = before[name]
        scale = variance.max()
        assert ((each.running_mean - mean) ** 2).max() < 0.01 * scale, name
        assert (each.running_var - variance).abs().max() < 0.02 * scale, name


@pytest.mark.core
def test_the_same_seed_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr("yolo_lite.weights.sampling.PIXELS", 300)  # fewer than in the smallest maps
    source = lively(build("yolov8n.yaml"))
    targets = [build("yolo26s-lite.yaml", 1) for _ in range(3)]
    for target, seed in zip(targets, (3, 3, 4), strict=True):
        transfer.transfer(source, target, images(), seed)
    first, second, other = (list(target.state_dict().values()) for target in targets)
    assert all(map(torch.equal, first, second))
    assert not all(map(torch.equal, first, other))


def test_maps_on_disk_change_nothing(monkeypatch):
    source = lively(build("yolov8n.yaml"))
    targets = [build("yolo26s-lite.yaml", 1) for _ in range(2)]
    transfer.transfer(source, targets[0], images())
    monkeypatch.setattr("yolo_lite.weights.store.MEMORY", 0)
    transfer.transfer(source, targets[1], images())
    assert all(map(torch.equal, targets[0].state_dict().values(), targets[1].state_dict().values()))


def test_dead_channels_do_no_harm():
    source, target = lively(build("yolov8n.yaml")), build("yolo26s-lite.yaml", 1)
    for layer in roles.layers_of(source):
        if isinstance(layer, Conv):
            layer.bn.weight.data[::3] = 0
            layer.conv.weight.data[::5] = 0
    done = transfer.transfer(source, target, images(4))
    assert all(value.isfinite().all() for value in target.state_dict().values())
    assert done.count("fitted") and decoded(target).isfinite().all()


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_very_few_images(count):
    target = build("yolo26s-lite.yaml", 1)
    transfer.transfer(lively(build("yolov8n.yaml")), target, images(count))
    assert decoded(target).isfinite().all()


@pytest.mark.parametrize(
    ("spoil", "seen", "said"),
    [
        (lambda model: model.model[3].conv.weight.data.fill_(torch.nan), images(2), "model.3.conv.weight holds values"),
        (lambda model: None, images(2)[:0], "found no images to transfer with; needed at least one"),
        (lambda model: None, images(2, channels=4), "source takes images of 3 channels, found 4"),
    ],
)
def test_refused(spoil, seen, said):
    source, target = build("yolov8n.yaml"), build("yolo26s-lite.yaml", 1)
    spoil(source)
    before = [value.clone() for value in target.state_dict().values()]
    with pytest.raises(ConfigError, match=said):
        transfer.transfer(source, target, seen)
    assert all(map(torch.equal, before, target.state_dict().values()))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("yolov8s.yaml", "yolo26s-lite.yaml", marks=pytest.mark.slow),
        pytest.param("yolov5nu.yaml", "yolo26s-lite.yaml", marks=pytest.mark.slow),
        pytest.param("yolo11n.yaml", "yolo26s-lite.yaml", marks=pytest.mark.slow),
        ("yolo26n.yaml", "yolo26s-lite.yaml"),
        pytest.param("yolov8n.yaml", "yolo26n.yaml", marks=pytest.mark.slow),
        pytest.param("yolov8n.yaml", "yolo11n.yaml", marks=pytest.mark.slow),
        ("yolov8n.yaml", "yolov8n-mnv3.yaml"),
        pytest.param("yolov8n.yaml", "yolov8n-timm.yaml", marks=pytest.mark.slow),
    ],
)
def test_any_pair(source, target):
    """Every kind of block has its counterpart or a start of its own, and what comes out is finite."""
    source = source.replace("yolov5nu", "yolov5n")
    teacher, student = lively(build(source)), build(target, 1)
    done = transfer.transfer(teacher, student, images(4))
    assert {fit.name for fit in done.fits} == {
        name for name, each in student.named_modules() if each in set(roles.layers_of(student)) and "dfl" not in name
    }
    assert done.count("fitted") > 30
    assert all(value.isfinite().all() for value in student.state_dict().values())


# Parts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_layer_is_told_what_it_sees():
    found = roles.units(build("yolov8n.yaml").eval())
    origins = roles.trace(found, 3, CPU)
    by_name = {unit.name: unit for unit in found}
    first, second = by_name["model.0"].module, by_name["model.1"].module
    assert origins[second] == [(first, channel) for channel in range(16)]
    neck = by_name["model.12"].module.cv1  # its inputs are the upsampled SPPF and P4
    pool, fourth = by_name["model.9"].module.cv2, by_name["model.6"].module.cv2
    assert origins[neck][:256] == [(pool, channel) for channel in range(256)]
    assert origins[neck][256:] == [(fourth, channel) for channel in range(128)]


def test_levels_and_sections():
    found = {unit.name: unit for unit in roles.units(build("yolov8n.yaml").eval())}
    roles.trace(list(found.values()), 3, CPU)
    at = {name: (unit.section, unit.level, unit.kind) for name, unit in found.items()}
    assert at["model.3"] == ("backbone", 3, "down") and at["model.4"] == ("backbone", 3, "block")
    assert at["model.9"] == ("neck", 5, "context") and at["model.16"] == ("neck", 4, "down")
    assert at["model.22.cv3.1.0"] == ("cv3", 4, "conv")


def test_attention_without_counterpart_gives_what_the_pooling_gave():
    source, target = (roles.units(build(name).eval()) for name in ("yolov8n.yaml", "yolo11n.yaml"))
    for found in (source, target):
        roles.trace(found, 3, CPU)
    pairs = {target[own].name: source[other].name for own, other in roles.pairs(source, target).items()}
    assert pairs["model.9"] == pairs["model.10"] == "model.9"
    assert pairs["model.4"] == "model.4" and pairs["model.22"] == "model.21"
    assert pairs["model.23.cv3.0.1.1"] == "model.22.cv3.0.1" and pairs["model.23.cv3.0.2"] == "model.22.cv3.0.2"


@pytest.mark.core
def test_a_solution_is_the_least_squares_one():
    generator = torch.Generator().manual_seed(0)
    x, true = torch.randn(400, 5, generator=generator), torch.randn(3, 5, generator=generator)
    y = x @ true.T + torch.tensor([1.0, -2.0, 0.5])
    fit, held = (Moments(1, 5, 3, CPU) for _ in range(2))
    fit.add(x[None, :300], y[None, :300])
    held.add(x[None, 300:], y[None, 300:])
    solution = solve(fit, held)
    assert torch.allclose(solution.weight[0].float(), true, atol=1e-4) and solution.error < 1e-6
    assert torch.allclose(solution.intercept[0].float(), torch.tensor([1.0, -2.0, 0.5]), atol=1e-4)
    shuffled = y[torch.randperm(400, generator=generator)]
    wrong, others = (Moments(1, 5, 3, CPU) for _ in range(2))
    wrong.add(x[None, :300], shuffled[None, :300])
    others.add(x[None, 300:], shuffled[None, 300:])
    assert solve(wrong, others).error > 0.9


def test_inputs_that_repeat_each_other():
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, x, torch.zeros(100, 1)], 1)
    sums, nothing = (Moments(1, 5, 1, CPU) for _ in range(2))
    sums.add(x[None], x[None, :, :1])
    solution = solve(sums, nothing)
    assert solution.weight.isfinite().all() and solution.error < 1e-3


@pytest.mark.core
def test_channels_are_chosen_for_what_they_explain():
    """One of each pair that says the same, and the dead one last."""
    a = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    maps = torch.cat([a, 3 * a, torch.zeros(500, 1)], 1)
    kept = choose(torch.cov(maps.double().T), torch.ones(5), 2)
    assert {each % 2 for each in kept} == {0, 1} and 4 not in kept
    assert choose(torch.cov(maps.double().T), torch.ones(5), 5) == [0, 1, 2, 3, 4]


def distances(logits, bins):
    return logits.view(-1, 4, bins).softmax(2) @ torch.arange(bins).float() if bins > 1 else logits.view(-1, 4)


@pytest.mark.parametrize(("theirs", "ours"), [(16, 8), (16, 32), (1, 8), (16, 1), (1, 1), (8, 8)])
def test_box_logits_of_other_bins(theirs, ours):
    """Distances that both can say stay as they are."""
    generator = torch.Generator().manual_seed(0)
    if theirs == 1:
        logits = torch.rand(50, 4, generator=generator) * 6
    else:
        centre = torch.rand(50, 4, 1, generator=generator) * 4 + 1
        logits = (-((torch.arange(theirs) - centre) ** 2)).flatten(1)
    brought = box_targets(logits, ours)
    assert brought.shape == (50, 4 * ours)
    assert torch.allclose(distances(brought, ours), distances(logits, theirs), atol=0.05)


def test_mass_beyond_the_last_bin_is_put_into_it():
    logits = torch.full((1, 4, 16), -20.0)
    logits[..., 12] = 20
    assert torch.allclose(distances(box_targets(logits.flatten(1), 8), 8), torch.full((1, 4), 7.0), atol=0.05)


def test_classes_by_name():
    assert class_rows({0: "Traffic Light", 1: "car"}, {0: "Car", 1: "bus", 2: "traffic_light"}) == {0: 1, 2: 0}
    assert class_rows(None, {0: "a"}) == {}


# Mimicking ------------------------------------------------------------------------------------------------------------


def test_a_backbone_learns_the_sources_maps(monkeypatch):
    """In some dozens of steps, on a clock of its own; everything but the backbone stays as it was."""
    clock = itertools.count()
    monkeypatch.setattr("yolo_lite.weights.mimicking.time.monotonic", lambda: float(next(clock)))
    source, target, seen = lively(build("yolov8n.yaml")), build("yolov8n-mnv3-small.yaml", 1), images(16)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    momenta = [each.momentum for each in target.modules() if isinstance(each, nn.BatchNorm2d)]
    shown = []
    error = mimic(source, target, seen, 1, 0, lambda done, error: shown.append((done, error)))
    assert len(shown) == 59 and [done for done, _ in shown] == sorted(done for done, _ in shown)
    # the training error falls; the images are noise, so the error on held-out ones is not informative
    assert 0.9 < shown[0][1] < 1.2 and shown[-1][1] < 0.75
    assert 0 < error < 1.2
    after, backbone = target.state_dict(), tuple(f"model.{row}." for row in range(5))
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(backbone) for name in changed)
    assert all(value.isfinite().all() for value in after.values())
    assert [each.momentum for each in target.modules() if isinstance(each, nn.BatchNorm2d)] == momenta
    done = transfer.transfer(source, target, seen)
    assert {fit.how for fit in done.fits if fit.name.startswith(backbone)} == {"kept"}  # by the transfer that follows


def test_mimicking_needs_other_blocks():
    with pytest.raises(ConfigError, match="mimic= is for backbones whose blocks are not YOLO's"):
        mimic(lively(build("yolov8n.yaml")), build("yolo26s-lite.yaml", 1), images(2), 1)


def test_features_are_what_the_neck_reads():
    for name, rows in (("yolov8n.yaml", (4, 6, 8)), ("yolov8n-mnv3.yaml", (2, 3, 4))):
        found = roles.units(build(name).eval())
        roles.trace(found, 3, CPU)
        by_level = roles.features(found)
        assert sorted(by_level) == [3, 4, 5]
        assert [int(found[by_level[level]].name.split(".")[1]) for level in (3, 4, 5)] == list(rows)
