"""Check which timm networks work as backbones: build and run many of them with `TimmBackbone`; write docs/timm.md.

Covers a list of light networks and a random sample of the others with a fixed seed. Each network either builds with the
channels and strides that timm's metadata states, runs forward and backward, and keeps its outputs when folded; or it is
refused with an error. Results are appended to the given file as they come, and kept when the script is restarted.

    python scripts/release/sweep_timm.py [results.csv]
"""

import csv
import fnmatch
import random
import sys
from pathlib import Path

import timm
import torch
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite import ConfigError
from yolo_lite.backbones.timm_backbone import TimmBackbone, levels_of
from yolo_lite.files import write

ROOT = Path(__file__).resolve().parents[2]
LIGHT = """
edgenext_x_small edgenext_xx_small edgenext_small efficientformerv2_s0 efficientformerv2_s1 efficientnet_b0
efficientnet_lite0 efficientvit_b0 efficientvit_b1 efficientvit_m0 efficientvit_m5 fasternet_t0 fasternet_t1 fbnetc_100
fbnetv3_b fastvit_t8 fastvit_t12 ghostnet_100 ghostnet_130 ghostnetv2_100 ghostnetv3_100 hardcorenas_a
hgnetv2_b0 hgnetv2_b1 hgnetv2_b2 inception_next_atto lcnet_035 lcnet_050 lcnet_075 lcnet_100 mixnet_s mnasnet_050
mnasnet_100 mobilenet_edgetpu_v2_xs mobilenetv1_100 mobilenetv2_050 mobilenetv2_100 mobilenetv3_large_100
mobilenetv3_small_050 mobilenetv3_small_100 mobilenetv4_conv_medium mobilenetv4_conv_small mobilenetv4_conv_small_050
mobilenetv4_hybrid_medium mobilenetv5_base mobileone_s0 mobileone_s1 mobilevit_s mobilevit_xs mobilevit_xxs
mobilevitv2_050 mobilevitv2_100 pvt_v2_b0 regnetx_002 regnety_002 regnetz_005 repghostnet_050 repghostnet_100
repvgg_a0 repvit_m0_9 repvit_m1 resnet10t resnet14t resnet18 rexnet_100 semnasnet_100 shvit_s1 spnasnet_100 starnet_s1
starnet_s2 starnet_s3 starnet_s4 swiftformer_xs test_convnext test_resnet test_vit tinynet_a tinynet_e tiny_vit_5m_224
convnext_atto convnext_femto convnextv2_atto nextvit_small poolformer_s12 levit_128s vit_tiny_patch16_224
""".split()  # noqa: SIM905
FOR_CPUS = ("cpubone_*", "lcnetv2_*", "lowformer_*")  # newer; bench_timm.py measures them
SAMPLE = 60  # number of other networks in the random sample
MAX_PARAMETERS = 60e6  # larger networks are not built: too slow on a small machine


def main(results="runs/sweep_timm.csv"):
    results = Path(results)
    results.parent.mkdir(parents=True, exist_ok=True)
    done = {row["name"]: row for row in csv.DictReader(results.open())} if results.exists() else {}
    names = chosen()
    with results.open("a", newline="") as file:
        writer = csv.DictWriter(file, ["name", "levels", "verdict"])
        if not done:
            writer.writeheader()
        for index, name in enumerate(names, 1):
            if name not in done:
                done[name] = {"name": name, **verdict(name)}
                writer.writerow(done[name])
                file.flush()
            print(f"{index}/{len(names)} {name}: {done[name]['verdict']}", flush=True)
    write_page([done[name] for name in names])


def chosen():
    known = timm.list_models()
    light = [name for name in LIGHT if name in known]
    others = [name for name in known if name not in light and not fnmatch.fnmatch(name, "*_giant*")]
    sample = sorted(random.Random(0).sample(others, SAMPLE))
    newer = timm.list_models(FOR_CPUS)
    return light + newer + [name for name in sample if name not in newer]


def verdict(name):
    try:
        levels = levels_of(name)
        with torch.device("meta"):
            if sum(p.numel() for p in timm.create_model(name).parameters()) > MAX_PARAMETERS:
                return {"levels": text(levels), "verdict": "described, not built (large)"}
        torch.manual_seed(0)
        model = TimmBackbone(3, name)
        for size in (128, (timm.get_pretrained_cfg(name).input_size or (3, 224, 224))[-1]):
            try:
                image = torch.rand(2, 3, size, size)
                outputs = model.train()(image)
                break
            except (AssertionError, RuntimeError) as error:
                problem = error
        else:
            return {"levels": text(levels), "verdict": f"does not run: {' '.join(str(problem).split())[:120]}"}
        for level, output in outputs.items():
            want = (2, levels.channels[level], size // 2**level, size // 2**level)
            if output.shape != want:  # unpadded convolutions: building a full model must be refused
                DetectionModel(config(name), verbose=False)
                raise AssertionError(f"P{level} is {tuple(output.shape)}, not {want}, and nobody noticed")
        sum(output.square().mean() for output in outputs.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        with torch.no_grad():
            before = model.eval()(image)
            model.fold()
            after = model(image)
        worst = max(((after[k] - before[k]).abs().max() / before[k].abs().max()).item() for k in before)
        assert worst <= 1e-4, f"folded outputs differ by {worst:.1e}"
        left = sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
        assert not left, f"{left} BatchNorms left"
        return {
            "levels": text(levels),
            "verdict": "works" if size == 128 else f"runs at {size} px only: refused in a YAML",
        }
    except ConfigError as error:
        return {"levels": "", "verdict": f"refused: {error}"}
    except AssertionError as error:
        return {"levels": "", "verdict": f"FAILS: {error}"}


def config(name):
    """Return the config yolov8n-timm.yaml with a network's name and with the levels P3 to P5 only."""
    d = yaml_model_load("yolov8n-timm.yaml")
    d["backbone"][0][3] = [name]
    d["backbone"][1][3] = [3]
    return d


def text(levels):
    return " ".join(f"P{level}:{channels}" for level, channels in sorted(levels.channels.items()) if level)


def write_page(rows):
    page = (ROOT / "docs" / "timm.md").read_text("utf-8")
    works = sum(row["verdict"].startswith("works") for row in rows)
    refused = sum("refused" in row["verdict"] for row in rows)
    lines = [
        "# timm networks as backbones",
        "",
        f"Written by `scripts/release/sweep_timm.py` with timm {timm.__version__}: {len(rows)} networks, {works} work, "
        f"{refused} are refused with an error. *Works* means: channels and strides of every level are as described, "
        "forward and backward passes run with finite gradients, outputs agree within 1e-4 after folding, and no "
        "BatchNorm is left. To train one as YOLOv8n's backbone, put its name into a copy of `yolov8-timm.yaml`.",
        "",
        "## Latency",
        "",
        "Networks made for CPUs, and well-known lightweight ones, as YOLOv8n's backbone with its own neck and head: "
        "`scripts/benchmarks/bench_timm.py`.",
        "",
        "<!-- times -->",
        *page.partition("<!-- times -->\n")[2].partition("<!-- /times -->")[0].splitlines(),
        "<!-- /times -->",
        "",
        "## What works",
        "",
        "| network | levels and channels | verdict |",
        "|---|---|---|",
        *(f"| `{row['name']}` | {row['levels']} | {row['verdict'].replace('|', '/')} |" for row in rows),
    ]
    write(ROOT / "docs" / "timm.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
