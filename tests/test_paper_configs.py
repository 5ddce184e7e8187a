"""The papers' own settings: what a file in configs/paper promises, and the learning rates that come out of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from vpt import config
from vpt.build import check
from vpt.config import Config
from vpt.engine.optim import learning_rates, make_optimizer, make_schedule
from vpt.protocols.sources import labels, source_row, sources
from vpt.sweep import Row

PAPER = Path(__file__).parents[1] / "configs" / "paper"
FILES = sorted(PAPER.glob("**/*.yaml"))
DASSL = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "augment": "crop", "keep": "last"}
STEPS = 3  # optimizer steps an epoch in this test


@cache
def rows(path: Path) -> tuple[Row, ...]:
    """Every data set of a file with every method and number of shots, and the grid that is searched on each."""
    read = config.read(path)
    return tuple(
        source_row(
            read, source, label, Path("runs"), before=changes, after={} if shots is None else {"data.shots": shots}
        )
        for source in sources(read)
        for label in labels(read)
        for shots, changes in (read.shots or {None: {}}).items()
    )


@cache
def experiments(path: Path) -> tuple[Config, ...]:
    """One experiment of each row, checked: of a grid the first point."""
    return tuple(row.first() for row in rows(path))


def chosen(file: str, **wanted: Any) -> dict[str, Any]:
    """`train` of a file's experiment on one of its data sets, with one of its numbers of shots."""
    found = [
        run.train
        for run in experiments(PAPER / file)
        if all(run.data.get(key, value) == value for key, value in wanted.items())
    ]
    return found[0]


def rates_of(train: dict[str, Any]) -> dict[int, float]:
    """The learning rate of the first step of each epoch; of settings that count steps, of each step."""
    batch = train["batch_size"]
    lr, head_lr = learning_rates(
        lr=train.get("lr"), base_lr=train.get("base_lr"), head_lr=None, batch=batch, optimizer=train["optimizer"]
    )
    optimizer = make_optimizer(
        {"prompts": [nn.Parameter(torch.ones(2))]},
        name=train["optimizer"],
        lr=lr,
        head_lr=head_lr,
        momentum=train.get("momentum", 0.9),
        weight_decay=train["weight_decay"],
        eps=train.get("eps"),
    )
    every = STEPS if "epochs" in train else 1
    steps = train.get("steps") or train["epochs"] * STEPS
    schedule = make_schedule(
        optimizer,
        steps=steps,
        warmup_steps=train.get("warmup_epochs", 0) * every,
        min_lr=train.get("min_lr", 0.0),
        kind=train["schedule"],
        steps_per_epoch=every,
    )
    rates = {}
    for step in range(steps):
        schedule.step_update(step + 1)
        if step % every == 0:
            rates[step // every] = optimizer.param_groups[0]["lr"]
        elif train["schedule"] in ("coop", "vpt"):
            assert optimizer.param_groups[0]["lr"] == rates[step // every]
    return rates


class Golden(NamedTuple):
    """Of a file's experiment: how long it trains, by how many images, and rates by epoch (or step), by hand."""

    file: str
    data: dict[str, Any]
    length: int
    batch: int
    rates: dict[int, float]


# Of 50, 100 and 200 epochs at 0.002: in the middle half of it, in the last epoch 0.001 · (1 - cos(2π / epochs)).
CONTEXT = {
    50: {0: 1e-5, 1: 0.002, 26: 0.001, 49: 7.885299e-6},
    100: {0: 1e-5, 1: 0.002, 51: 0.001, 99: 1.973272e-6},
    200: {0: 1e-5, 1: 0.002, 101: 0.001, 199: 4.934396e-7},
}
# 0.00125 times 2, 1.809017, 1.309017, 0.690983; of MaPLe 0.00175 times them.
FIVE = {0: 1e-5, 1: 0.0025, 2: 2.261271e-3, 3: 1.636271e-3, 4: 8.637288e-4}
MAPLE = {0: 1e-5, 1: 0.0035, 2: 3.165780e-3, 3: 2.290780e-3, 4: 1.209220e-3}
TWENTY = {0: 1e-5, 1: 0.0025, 11: 0.00125, 19: 6.117935e-5}
# A base rate of 1 for 256 images is 0.5 for 128: a tenth of it more in each of ten epochs, then half a cosine.
JIA = {0: 0.0, 1: 0.05, 9: 0.45, 10: 0.5, 55: 0.25, 99: 1.522932e-4}
# Linear to 40 in five epochs, then half a cosine over the other 995.
PIXEL = {0: 40 / 15, 1: 40 * 4 / 15, 502: 20.021042, 999: 9.962361e-5}
# Steps 0, 30 and 57 of 60, at the beginning of epochs.
TIP = {0: 0.001, 10: 0.0005, 19: 6.155830e-6}

GOLDEN = [
    *(Golden("coop/few_shot.yaml", {"name": "dtd", "shots": shots}, epochs, 32, CONTEXT[epochs])
      for shots, epochs in {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}.items()),
    *(Golden("coop/few_shot.yaml", {"name": "imagenet", "shots": shots}, 50, 32, CONTEXT[50]) for shots in (1, 16)),
    Golden("coop/base_to_new.yaml", {"name": "dtd"}, 200, 32, CONTEXT[200]),
    Golden("coop/base_to_new.yaml", {"name": "imagenet"}, 50, 32, CONTEXT[50]),
    Golden("cocoop/base_to_new.yaml", {}, 10, 1, {0: 1e-5, 1: 0.002, 6: 0.001, 9: 1.909830e-4}),
    Golden("kgcoop/base_to_new.yaml", {}, 100, 128, CONTEXT[100]),
    Golden("prograd/base_to_new.yaml", {"name": "dtd"}, 100, 32, CONTEXT[100]),
    Golden("maple/base_to_new.yaml", {}, 5, 4, MAPLE),
    Golden("maple/cross_dataset.yaml", {}, 2, 4, {0: 1e-5, 1: 0.0026}),
    Golden("coprompt/base_to_new.yaml", {"name": "dtd"}, 8, 4, {0: 1e-5, 1: 0.0035, 7: 5.125631e-4}),
    Golden("coprompt/base_to_new.yaml", {"name": "food101"}, 5, 4, MAPLE),
    Golden("promptkd/base_to_new.yaml", {}, 20, 8, {0: 1e-5, 1: 0.005, 11: 0.0025}),
    Golden("ivlp/base_to_new.yaml", {}, 5, 4, MAPLE),
    Golden("ivlp/base_to_new_20_epochs.yaml", {}, 20, 4, TWENTY),
    Golden("vpt-deep/clip_base_to_new.yaml", {}, 5, 4, FIVE),
    Golden("promptsrc/base_to_new.yaml", {}, 20, 4, TWENTY),
    Golden("pixel/clip_cifar100.yaml", {}, 1000, 256, PIXEL),
    Golden("promptsrc/cross_dataset.yaml", {}, 20, 4, TWENTY),
    *(Golden("promptsrc/few_shot.yaml", {"shots": shots}, 50, 4, {0: 1e-5, 1: 0.0025, 26: 0.00125, 49: 9.856624e-6})
      for shots in (1, 16)),
    Golden("clip-adapter/imagenet.yaml", {}, 200, 32, CONTEXT[200]),
    Golden("tip-adapter-f/imagenet.yaml", {}, 20, 256, TIP),
    Golden("tip-adapter-f/few_shot.yaml", {"name": "dtd"}, 20, 256, TIP),
    Golden("tip-adapter-f/few_shot.yaml", {"name": "eurosat"}, 100, 256, {0: 0.001, 50: 0.0005}),
    *(Golden("clip-lora/few_shot.yaml", {"shots": shots}, 500 * shots, 32, {0: 2e-4, 250 * shots: 1.005e-4})
      for shots in (1, 2, 4, 8, 16)),
    *(Golden(f"{method}/vtab_cifar100.yaml", {}, 100, 64, {0: 1e-4 / STEPS, 10: 9.999667e-4, 99: 1.029932e-5})
      for method in ("repadapter", "convpass", "fact")),
    Golden("ssf/vtab_cifar100.yaml", {}, 200, 128, {0: 5e-4 / STEPS}),
    Golden("clip-lora/base_to_new.yaml", {}, 8000, 32, {0: 2e-4, 4000: 1.005e-4, 7999: 1.000008e-6}),
    Golden("taskres/few_shot.yaml", {"name": "dtd", "shots": 4}, 100, 256, CONTEXT[100]),
    Golden("taskres/few_shot.yaml", {"name": "imagenet", "shots": 16}, 200, 256, {1: 0.0002, 101: 0.0001}),
    Golden("clap/few_shot.yaml", {}, 300, 256, {0: 1e-5, 1: 0.1, 151: 0.05}),
    Golden("lp++/few_shot.yaml", {}, 300, 100_000, {0: 1.0, 299: 1.0}),
    Golden("tcp/base_to_new.yaml", {}, 50, 32, CONTEXT[50]),
    Golden("atprompt/base_to_new.yaml", {}, 100, 32, CONTEXT[100]),
    Golden("dept/base_to_new.yaml", {}, 10, 4, {0: 1e-5, 1: 0.0035, 6: 0.00175}),
    Golden("mma/base_to_new.yaml", {}, 5, 16, {0: 0.0015}),
    Golden("mmrl/base_to_new.yaml", {"name": "dtd"}, 10, 4, {0: 1e-5, 1: 0.001, 6: 0.0005}),
    *(Golden(f"prolip/{name}.yaml", {}, 300, 100_000, {0: 1e-5, 150: 5e-6}) for name in ("few_shot", "base_to_new")),
]  # fmt: skip


# Of Tip-Adapter's data sets: alpha, and the largest alpha and beta that are searched.
TIP_SEARCHES = {
    "caltech101": (3, 5, 12),
    "oxford_pets": (1.17, 3, 7),
    "stanford_cars": (3, 10, 20),
    "oxford_flowers": (10, 50, 50),
    "food101": (1.17, 10, 10),
    "fgvc_aircraft": (5, 30, 30),
    "sun397": (1.17, 10, 12),
    "dtd": (2, 13, 13),
    "eurosat": (2, 10, 12),
    "ucf101": (3, 3, 7),
}


def test_every_paper_has_its_files() -> None:
    prompts = "coop cocoop kgcoop prograd maple coprompt promptkd ivlp promptsrc tcp dept atprompt mmrl"
    adapters = "clip-adapter tip-adapter tip-adapter-f clip-lora taskres clap lp++ gda prolip cross-modal 2sfs mma"
    images = (
        "adaptformer adapter adapter+ ssf repadapter convpass fact lora norm prefix vfpt e2vpt gate-vpt spt vapt lst"
    )
    others = "vpt-shallow vpt-deep pixel"
    found = " ".join([prompts, adapters, images, others]).split()
    assert {path.parent.name for path in FILES} == set(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_says_what_it_aims_at_and_what_was_checked(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert head[0].endswith(f" configs/paper/{path.parent.name}/{path.name}")
    parts = [line.split(":")[0] for line in head]
    order = [parts.index(f"# {part}") for part in ("Aims at", "Checked against", "Not checked", "Differs")]
    assert order == sorted(order)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_experiment_of_a_file_is_valid_and_of_its_method(path: Path) -> None:
    # DePT is around another method.
    around = {"dept": "kgcoop+dept"}
    assert {run.method["name"] for run in experiments(path)} == {around.get(path.parent.name, path.parent.name)}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: f"{golden.file} {golden.data}")
def test_learning_rates_epochs_and_batches_are_the_papers(golden: Golden) -> None:
    train = chosen(golden.file, **golden.data)
    assert train.get("steps", train.get("epochs")) == golden.length
    assert train["batch_size"] == golden.batch
    rates = rates_of(train)
    assert len(rates) == golden.length
    assert {time: rates[time] for time in golden.rates} == pytest.approx(golden.rates, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    "path", sorted(PAPER.glob("vpt-*/[!c]*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_vpt_searches_the_papers_grid_by_its_own_schedule(path: Path) -> None:
    for row in rows(path):
        grid = {(point["train.base_lr"], point["train.weight_decay"]) for point in row.grid}
        assert grid == {
            (lr, decay) for lr in (50, 25, 10, 5, 2.5, 1, 0.5, 0.25, 0.1, 0.05) for decay in (0.01, 0.001, 0.0001, 0)
        }
        longest = max(point.get("method.num_tokens", 0) for point in row.grid)
        train = row.config({**row.grid[0], "train.base_lr": 1}, 1, Path("runs")).train
        assert train["batch_size"] == (64 if longest >= 100 else 128)
        if longest < 100:
            rates = rates_of(train)
            assert len(rates) == 100
            assert {epoch: rates[epoch] for epoch in JIA} == pytest.approx(JIA, rel=1e-6)


# Their code is not Dassl's, or with another optimizer.
OTHERS = ("tip-adapter", "taskres", "clap", "lp++", "prolip", "tcp", "mmrl", "pixel")


@pytest.mark.parametrize(
    "file",
    sorted({golden.file for golden in GOLDEN if not golden.file.startswith(OTHERS) and "vtab" not in golden.file}),
)
def test_prompts_are_trained_as_dassl_does(file: str) -> None:
    for run in experiments(PAPER / file):
        # CoPrompt shows the frozen model another draw of the same transform.
        drawn = {"augment": "randaugment"} if run.method["name"] == "coprompt" else {}
        assert run.train["augment"] == drawn.get("augment", "crop")
        assert run.train["keep"] == "last"
        if run.method["name"] == "clip-lora":
            assert (run.train["optimizer"], run.train["weight_decay"]) == ("adamw", 0.01)
            continue
        assert {key: run.train[key] for key in DASSL} == DASSL | drawn
        assert run.train["drop_last"]
        assert run.train["precision"] == ("fp32" if run.method["name"] == "clip-adapter" else "fp16")


def test_what_a_data_set_changes_is_the_papers() -> None:
    promptsrc = {r.data["name"]: r.method for r in experiments(PAPER / "promptsrc/few_shot.yaml")}
    late = {name for name, method in promptsrc.items() if (method["mean"], method["std"]) == (45, 5)}
    assert late == {"stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat"}
    assert (promptsrc["imagenet"]["mean"], promptsrc["imagenet"]["std"]) == (30, 30)
    tip = {r.data["name"]: r.method for r in experiments(PAPER / "tip-adapter-f/few_shot.yaml")}
    assert {name: (method["alpha"], *method["grid"]) for name, method in tip.items()} == TIP_SEARCHES
    plain = {r.data["name"]: r.method for r in experiments(PAPER / "tip-adapter/few_shot.yaml")}
    assert {name: (method["alpha"], *method["grid"]) for name, method in plain.items()} == TIP_SEARCHES


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("prograd/base_to_new.yaml", ["method.init_count=words"]),
        ("clip-lora/few_shot.yaml", ["data.shots_first=val"]),
        ("clip-lora/base_to_new.yaml", ["data.shots_first=val"]),
        ("ivlp/base_to_new.yaml", ["method.image_depth=0"]),
        *((f"vpt-{depth}/{data}.yaml", ["head_init=vpt", "train.no_decay=biases"])
          for depth in ("deep", "shallow") for data in ("fgvc_flowers", "vtab_cifar100")),
    ],
)  # fmt: skip
def test_what_a_file_says_to_do_as_the_code_does_can_be_done(file: str, options: list[str]) -> None:
    path = PAPER / file
    head = " ".join(path.read_text(encoding="utf-8").replace("\n# ", " ").split())
    assert all(option in head for option in options)
    check(config.read(path, [*options, "datasets=[]", "shots={}", "compare={}", "select={}"]))


def test_a_cache_never_chooses_by_imagenets_test_images() -> None:
    for method in ("tip-adapter", "tip-adapter-f"):
        for run in experiments(PAPER / method / "imagenet.yaml"):
            assert run.data["val"] == "train"
