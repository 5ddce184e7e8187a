"""Many tasks over one backbone: each image has the answer of its own task's model, whatever else is in the batch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vpt
from tests.text_models import image_text_model
from tests.zoo import EXAMPLES, vit
from vpt import VptError
from vpt.methods import available, called, find

# Methods, options and numbers of classes, on an image model.
VISUAL: dict[str, tuple[str, dict[str, Any], int]] = {
    "linear": ("linear", {}, 3),
    "five": ("vpt-deep", {"num_tokens": 5}, 4),
    "two": ("vpt-deep", {"num_tokens": 2}, 2),
    "first two blocks": ("vpt-deep", {"num_tokens": 3, "first": 2}, 5),
    "last block": ("vpt-deep", {"num_tokens": 2, "last": 1}, 3),
    "shared": ("vpt-deep", {"num_tokens": 2, "shared": True}, 3),
    "shallow": ("vpt-shallow", {"num_tokens": 4}, 3),
    "projected": ("vpt-shallow", {"num_tokens": 1, "project": 6}, 2),
}
CHANGES: dict[str, tuple[str, dict[str, Any], int]] = {
    "low rank": ("clip-lora", {"rank": 2, "head": "linear"}, 3),
    "other low rank": ("clip-lora", {"rank": 1, "projections": "kv", "head": "linear"}, 2),
}
TUNED: dict[str, tuple[str, dict[str, Any], int]] = {
    "bias": ("bias", {}, 3),
    "last blocks": ("partial-k", {"k": 1}, 4),
    "full": ("full", {}, 2),
}
NAMES = ["a dog", "a red car", "a tree", "a house", "a bird"]
TEXT: dict[str, tuple[str, dict[str, Any], int]] = {
    "zero-shot": ("zero-shot", {}, 3),
    "other names": ("zero-shot", {}, 5),
    "coop": ("coop", {}, 4),
    "cocoop": ("cocoop", {}, 2),
    "maple": ("maple", {}, 3),
    "ivlp": ("ivlp", {"num_tokens": 3}, 2),
    "adapter": ("clip-adapter", {}, 3),
    "low rank of both": ("clip-lora", {}, 3),
    "prompts and names": ("vpt-deep", {"num_tokens": 2, "head": "text"}, 3),
    "prompts and head": ("vpt-deep", {"num_tokens": 2}, 3),
}

Make = Callable[[], nn.Module]


# Where the defaults do not suit small images.
OPTIONS: dict[str, dict[str, Any]] = {"pixel": {"size": 2}}
COMBINED: dict[str, list[str]] = {
    "prompts and low rank": ["vpt-deep", "lora"],
    "adapters and keys": ["adaptformer", "prefix"],
    "context and prompts": ["coop", "vpt-deep"],
}


def saved(folder: Path, make: Make, tasks: Mapping[str, tuple[Any, dict[str, Any], int]]) -> dict[str, Path]:
    """Models as if they were trained, saved."""
    places = {}
    for seed, (name, (method, options, count)) in enumerate(tasks.items()):
        torch.manual_seed(seed)
        model = vpt.attach(make(), method, classes=NAMES[:count], **options)
        side = model.preprocessing.size[0]
        batch, labels = torch.randn(2 * count, 3, side, side), torch.arange(2 * count) % count
        with torch.no_grad():
            if model.needs_images:
                model.initialise(batch)
            model.prepare(batch, labels)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        places[name] = folder / name.replace(" ", "-")
        model.save_pretrained(places[name])
    return places


def bank_of(make: Make, places: dict[str, Path]) -> vpt.PromptBank:
    bank = vpt.PromptBank(make().double())
    for name, place in places.items():
        bank.add(name, place)
    return bank


def images(count: int, side: int) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def check(make: Make, places: dict[str, Path], side: int) -> None:
    """A batch that mixes all tasks, each several times, gives what each model gives alone, in float64."""
    bank = bank_of(make, places)
    names = [*places, *reversed(places), *list(places)[::2]]
    batch = images(len(names), side)
    found = bank.logits(batch, names)
    for name, place in places.items():
        alone = vpt.load(place, backbone=make()).double()
        rows = [row for row, each in enumerate(names) if each == name]
        for row, expected in zip(rows, alone(batch[rows]), strict=True):
            assert (found[row] - expected).abs().max() < 1e-10, name


def test_a_batch_of_visual_prompts_mixes_tasks_of_any_numbers_of_tokens_and_classes(tmp_path: Path) -> None:
    check(vit, saved(tmp_path, vit, VISUAL | CHANGES), 32)


def test_what_tunes_the_backbone_has_weights_of_its_own_beside_the_others(tmp_path: Path) -> None:
    places = saved(tmp_path, vit, TUNED | {"five": VISUAL["five"], "linear": VISUAL["linear"]})
    check(vit, places, 32)
    shared = vit().double()
    before = {name: tensor.clone() for name, tensor in shared.state_dict().items()}
    bank = vpt.PromptBank(shared)
    for name, place in places.items():
        bank.add(name, place)
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.state_dict().items())
    own, theirs = bank.tasks["bias"].model.tower.named_parameters(), {p.data_ptr() for p in shared.parameters()}
    assert all(name.endswith("bias") for name, parameter in own if parameter.data_ptr() not in theirs)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("map pooling", "registers", "clip, norm before blocks")]


@pytest.mark.parametrize("architecture", ["parallel blocks", *SLOW, pytest.param("hf dinov2", marks=pytest.mark.slow)])
def test_it_holds_for_other_architectures(architecture: str, tmp_path: Path) -> None:
    example = EXAMPLES[architecture]
    few = {name: VISUAL[name] for name in ("linear", "five", "two", "first two blocks", "shallow")}
    check(example.make, saved(tmp_path, example.make, few), example.size[0])


def test_a_batch_of_image_text_models_mixes_methods_and_names(tmp_path: Path) -> None:
    check(image_text_model, saved(tmp_path, image_text_model, TEXT), 16)


def all_with(head: str) -> dict[str, tuple[Any, dict[str, Any], int]]:
    """Every method that this classifier goes with, and combinations."""
    kinds: dict[str, Any] = {name: name for name in available()} | COMBINED
    found = {name: kind for name, kind in kinds.items() if head in find(called(kind)[0]).heads}
    return {
        name: (kind, {"head": head, **OPTIONS.get(name, {})}, 2 + index % 3)
        for index, (name, kind) in enumerate(found.items())
    }


def test_what_is_added_inside_around_and_beside_the_blocks_mixes_too(tmp_path: Path) -> None:
    kinds = {"five", "adapter+", "ssf", "convpass", "lst", "vapt", "prompts and low rank"}
    tasks = {name: task for name, task in (VISUAL | all_with("linear")).items() if name in kinds}
    assert tasks.keys() == kinds
    check(vit, saved(tmp_path, vit, tasks), 32)


@pytest.mark.slow
def test_it_takes_every_method_with_a_linear_head(tmp_path: Path) -> None:
    check(vit, saved(tmp_path, vit, all_with("linear")), 32)


@pytest.mark.slow
def test_it_takes_every_method_with_class_names(tmp_path: Path) -> None:
    check(image_text_model, saved(tmp_path, image_text_model, all_with("text")), 16)


def test_tasks_that_leave_images_alone_share_one_pass_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: TEXT[name] for name in ("zero-shot", "other names", "coop", "adapter", "maple")}
    bank = bank_of(image_text_model, saved(tmp_path, image_text_model, few))
    passed: list[int] = []
    embed = type(bank.backbone.tower).embed

    def counted(tower: Any, batch: Tensor) -> Tensor:
        passed.append(len(batch))
        return embed(tower, batch)

    monkeypatch.setattr(type(bank.backbone.tower), "embed", counted)
    picture = torch.rand(3, 16, 16)
    found = bank.predict([picture] * 5, list(few))
    assert passed == [2]
    assert [list(prediction.scores) != [] for prediction in found] == [True] * 5


def test_predictions_are_those_of_each_model(tmp_path: Path) -> None:
    places = saved(tmp_path, vit, {"five": VISUAL["five"], "linear": VISUAL["linear"]})
    bank = vpt.PromptBank(vit())
    for name, place in places.items():
        bank.add(name, place)
    pictures = [torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    found = bank.predict(pictures, ["five", "linear", "five"], batch_size=2)
    for picture, name, prediction in zip(pictures, ["five", "linear", "five"], found, strict=True):
        expected = vpt.load(places[name], backbone=vit()).predict(picture)
        assert prediction.label == expected.label
        assert prediction.scores == pytest.approx(expected.scores, abs=1e-6)
    one = bank.predict(pictures[0], "five")
    assert isinstance(one, vpt.Prediction)
    assert one.scores == pytest.approx(found[0].scores, abs=1e-6)


def test_the_backbone_is_looked_at_once_whatever_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vpt import saving

    places = saved(tmp_path, vit, VISUAL)
    counted: list[int] = []
    fingerprint = saving.fingerprint
    monkeypatch.setattr(saving, "fingerprint", lambda tensors: counted.append(1) or fingerprint(tensors))
    bank = bank_of(vit, places)
    assert len(bank) == len(VISUAL)
    assert counted == [1]


def test_another_backbone_is_refused_and_the_bank_is_as_before(tmp_path: Path) -> None:
    places = saved(tmp_path, vit, {"five": VISUAL["five"]})
    other = vit()
    with torch.no_grad():
        other.blocks[0].norm1.weight.mul_(2)
    bank = vpt.PromptBank(other)
    with pytest.raises(VptError, match="was trained with"):
        bank.add("five", places["five"])
    assert len(bank) == 0


def test_tasks_are_removed_and_replaced_by_name(tmp_path: Path) -> None:
    places = saved(tmp_path, vit, {"five": VISUAL["five"], "two": VISUAL["two"]})
    bank = vpt.PromptBank(vit())
    bank.add("mine", places["five"])
    with pytest.raises(VptError, match="has a task 'mine' already: replace it"):
        bank.add("mine", places["two"])
    before = bank.tasks
    bank.replace("mine", places["two"])
    assert len(before["mine"].classes) == 4
    assert len(bank.tasks["mine"].classes) == 2
    bank.remove("mine")
    assert "mine" not in bank
    bank.add("mine", places["two"])
    for call in (lambda: bank.remove("mein"), lambda: bank.replace("mein", places["two"])):
        with pytest.raises(VptError, match="no task 'mein': did you mean 'mine'"):
            call()
    with pytest.raises(VptError, match="1 images and 2 tasks"):
        bank.predict([torch.rand(3, 32, 32)], ["mine", "mine"])


def test_tasks_change_while_others_predict(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    places = saved(tmp_path, vit, {**VISUAL, "bias": TUNED["bias"]})
    bank = vpt.PromptBank(vit())
    bank.add("kept", places["five"])
    batch = images(4, 32).float()
    expected = bank.logits(batch, "kept")

    def change(name: str) -> None:
        for _ in range(2):
            bank.add(name, places[name])
            bank.logits(batch, name)
            bank.replace(name, places[name])
            bank.remove(name)

    def ask(_: int) -> bool:
        # Sums of a batch may be taken in another order by other threads.
        return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(bank.logits(batch, "kept"), expected, strict=True))

    with ThreadPoolExecutor(6) as pool:
        changes = [pool.submit(change, name) for name in ("two", "shallow", "bias")]
        asked = list(pool.map(ask, range(20)))
        for done in changes:
            done.result()
    assert all(asked)
    assert list(bank) == ["kept"]


def test_a_folder_of_runs_and_models_is_opened_by_their_names(tmp_path: Path) -> None:
    for method, name in (("linear", "digits"), ("vpt-deep", "letters")):
        model = vpt.create("vpt/vit-nano", method, classes=["a", "b"])
        model.save_pretrained(tmp_path / "bank" / name / ("best" if name == "digits" else ""))
    (tmp_path / "bank" / "notes").mkdir()
    bank = vpt.PromptBank.open(tmp_path / "bank", device="cpu")
    assert list(bank) == ["digits", "letters"]
    assert bank.predict(torch.rand(3, 32, 32), "letters").label in ("a", "b")
    assert list(vpt.PromptBank.open(tmp_path / "bank" / "letters", device="cpu")) == ["letters"]
    with pytest.raises(VptError, match="holds no run and no saved model"):
        vpt.PromptBank.open(tmp_path / "bank" / "notes")


def test_a_folder_is_followed_as_tasks_come_change_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from vpt.serving.following import Following

    def save(name: str, *classes: str) -> None:
        model = vpt.create("vpt/vit-nano", "linear", classes=classes)
        model.save_pretrained(tmp_path / "bank" / name, overwrite=True)

    save("kept", "a", "b")
    save("goes", "a", "b")
    bank = vpt.PromptBank.open(tmp_path / "bank", device="cpu")
    following = Following(bank, tmp_path / "bank", seconds=0.05)
    assert following.look() == []
    kept = bank.tasks["kept"]
    save("comes", "a", "b", "c")
    shutil.rmtree(tmp_path / "bank" / "goes")
    (tmp_path / "bank" / "broken").mkdir()
    (tmp_path / "bank" / "broken" / "vpt.json").write_text("{}")
    said = following.look()
    assert [sentence for sentence in said if "broken" not in sentence] == [
        "the task goes is gone.",
        "the task comes is served too.",
    ]
    assert "the task broken is as it was:" in " ".join(said)
    assert following.look() == []
    model = vpt.create("vpt/vit-nano", "linear", classes=["a", "b"])
    model.save_pretrained(tmp_path / "bank" / "broken", overwrite=True)
    assert following.look() == ["the task broken is served too."]
    bank.remove("broken")
    assert list(bank) == ["kept", "comes"]
    assert bank.tasks["kept"] is kept
    save("comes", "a", "z")
    assert following.look() == ["the task comes has changed, and is served as it is now."]
    assert bank.tasks["comes"].classes == ("a", "z")
    # By itself it looks now and then, also after a look that failed.
    looks, failed = Following._stamps, []

    def stamps(self: Following) -> Any:
        if len(failed) < 2:
            failed.append(self)
            raise PermissionError("not now")
        return looks(self)

    monkeypatch.setattr(Following, "_stamps", stamps)
    following.begin()
    save("later", "a", "b")
    for _ in range(400):
        if "later" in bank:
            break
        following._ends.wait(0.05)
    following.end()
    assert "later" in bank
    assert capsys.readouterr().err.count("bank could not be looked at (not now): it is tried again.") == 1


def test_a_model_that_goes_while_it_is_read_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vpt import digest

    vpt.create("vpt/vit-nano", "linear", classes=["a", "b"]).save_pretrained(tmp_path / "goes")
    of_file = digest.of_file

    def gone(path: Path) -> str:
        path.unlink()
        return of_file(path)

    monkeypatch.setattr(digest, "of_file", gone)
    with pytest.raises(VptError, match=r"goes cannot be read \(.+\): see that it is there, and may be read"):
        vpt.load(tmp_path / "goes")
