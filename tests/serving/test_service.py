"""The service: what it answers, whom it lets in, what it refuses, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest
from PIL import Image

import vpt
from tests.serving.services import DIGITS, ask, picture, running, small_bank
from vpt import VptError
from vpt.serving.limits import Limits
from vpt.serving.server import Server, make_server

TOKEN = "a token that nobody guesses".replace(" ", "-")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> vpt.PromptBank:
    return small_bank(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def server(bank: vpt.PromptBank) -> Iterator[Server]:
    with running(bank, limits=Limits(max_bytes=50_000, max_pixels=100_000)) as found:
        yield found


def test_tasks_and_health_are_told_and_no_path_of_this_machine(server: Server, tmp_path: Path) -> None:
    status, found = ask(server, "/tasks")
    assert status == 200
    assert found == {
        "tasks": [
            {"name": "digits", "method": "vpt-deep", "classes": DIGITS},
            {"name": "pets", "method": "linear", "classes": ["cat", "dog"]},
        ],
        "search": False,
    }
    assert ask(server, "/health") == (200, {"status": "ok", "tasks": 2, "version": vpt.__version__})


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_is_classified_for_one_or_several_tasks_as_the_bank_does(
    server: Server, bank: vpt.PromptBank, tmp_path: Path, kind: str
) -> None:
    content = picture(kind=kind)
    (tmp_path / "image").write_bytes(content)
    status, found = ask(server, "/classify", content, task=["pets", "digits"], top=2)
    assert status == 200
    assert found["image"] == {"width": 40, "height": 30}
    for result, name in zip(found["results"], ["pets", "digits"], strict=True):
        expected = bank.predict(tmp_path / "image", name)
        assert isinstance(expected, vpt.Prediction)
        assert (result["task"], result["label"]) == (name, expected.label)
        assert result["score"] == pytest.approx(expected.score, abs=1e-5)
        assert [each["label"] for each in result["scores"]] == list(expected.scores)[:2]
    _, everything = ask(server, "/classify", content)
    assert [result["task"] for result in everything["results"]] == ["digits", "pets"]


def test_where_it_looked_is_a_map_of_patches_beside_the_image_as_it_was_seen(server: Server) -> None:
    _, found = ask(server, "/classify", picture(), task="digits", look="true")
    (result,) = found["results"]
    look = result["look"]
    assert len(look["values"]) == look["rows"] * look["columns"] == 64
    assert 0 < sum(look["values"]) <= 1 + 1e-5
    assert look["seen"].startswith("data:image/jpeg;base64,")


def test_requests_that_come_together_are_answered_together(server: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda seed: ask(server, "/classify", picture(seed=seed), task="digits"), range(48)))
    assert [status for status, _ in found] == [200] * 48
    alone = [ask(server, "/classify", picture(seed=seed), task="digits")[1] for seed in (0, 47)]
    assert [each["results"][0]["label"] for each in alone] == [found[i][1]["results"][0]["label"] for i in (0, 47)]
    text = ask(server, "/metrics")[1].decode()
    batches, images = (float(re.search(rf"vpt_batch_images_{name} (\S+)", text)[1]) for name in ("count", "sum"))
    assert batches < images


def test_metrics_count_requests_images_and_tasks(server: Server) -> None:
    ask(server, "/classify", picture(), task="pets")
    ask(server, "/nowhere")
    text = ask(server, "/metrics")[1].decode()
    assert re.search(r'vpt_requests_total\{path="/classify",status="200"\} [1-9]', text)
    assert 'vpt_requests_total{path="other",status="404"}' in text
    assert re.search(r'vpt_images_total\{task="pets"\} [1-9]', text)
    assert "vpt_tasks 2.0" in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.parametrize(
    ("content", "headers", "query", "status", "sentence"),
    [
        (b"no image", {}, {}, 422, "the image is no image that can be read"),
        (b"", {}, {}, 422, "there is no image"),
        (picture()[:200], {}, {}, 422, "the image cannot be decoded"),
        (b"x" * 50_001, {}, {}, 413, "larger than 50,000 bytes"),
        (picture(), {"Content-Type": "text/plain"}, {}, 415, "send the image file itself"),
        (picture(), {}, {"task": "pet"}, 404, "there is no task 'pet'"),
        (picture(), {}, {"top": "0"}, 422, "top='0' will not do: input should be greater than or equal to 1."),
        (picture(), {}, {"top": "x"}, 422, "top='x' will not do: input should be a valid integer"),
        (picture(), {}, {"look": "maybe"}, 422, "look='maybe' will not do: input should be a valid boolean"),
        (picture(), {"Host": "elsewhere.example"}, {}, 400, "this is not the host that was asked for: say localhost"),
        (picture(), {"Host": "a@localhost"}, {}, 400, "this is not the host that was asked for"),
        (picture(), {"Host": "localhost.elsewhere.example"}, {}, 400, "this is not the host that was asked for"),
    ],
)
def test_what_is_not_let_in_is_told_in_a_sentence(
    server: Server, content: bytes, headers: dict[str, str], query: Any, status: int, sentence: str
) -> None:
    found, answer = ask(server, "/classify", content, headers=headers, **query)
    assert found == status
    assert answer.keys() == {"error"}
    assert sentence in answer["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_this_machines_names_of_itself_are_let_in(server: Server, host: str) -> None:
    assert ask(server, "/health", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/search", 422, "text is missing: say it, as ?text=…"),
        ("/search?text=", 422, "text='' will not do: string should have at least 1 character."),
        (
            f"/search?text={'a' * 1001}",
            422,
            f"text='{'a' * 100}' will not do: string should have at most 1000 characters.",
        ),
        ("/images/abc", 422, "number='abc' will not do: input should be a valid integer"),
        ("/nowhere", 404, "there is no GET /nowhere: GET /openapi.json says what there is."),
        ("/classify", 405, "there is no GET /classify: GET /openapi.json says what there is."),
    ],
)
def test_a_question_without_an_answer_is_told_in_a_sentence(
    server: Server, path: str, status: int, sentence: str
) -> None:
    found, answer = ask(server, path)
    assert found == status
    assert answer.keys() == {"error"}
    assert answer["error"].startswith(sentence)


def test_what_programs_are_told_of_mistakes_is_what_they_are(server: Server) -> None:
    _, told = ask(server, "/openapi.json")
    for path, route in told["paths"].items():
        for how in route.values():
            schema = how["responses"]["422"]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Mistake"}, path
    assert "HTTPValidationError" not in str(told)


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        ("/classify?tsk=pets", picture(), "there is no parameter 'tsk': did you mean 'task'?"),
        ("/classify?task=pets&tpo=1", picture(), "there is no parameter 'tpo': did you mean 'top'?"),
        ("/search?txt=a+dog", None, "there is no parameter 'txt': did you mean 'text'?"),
        ("/images/0?size=9", None, "there is no parameter 'size': leave it out."),
        ("/tasks?task=pets", None, "there is no parameter 'task': leave it out."),
    ],
)
def test_a_misspelt_parameter_is_not_passed_over(
    server: Server, path: str, content: bytes | None, sentence: str
) -> None:
    assert ask(server, path, content) == (422, {"error": sentence})


def test_an_image_of_many_pixels_is_not_decoded(server: Server) -> None:
    import io

    out = io.BytesIO()
    Image.new("L", (1000, 1000)).save(out, "PNG")
    status, found = ask(server, "/classify", out.getvalue())
    assert status == 422
    assert "no image of more than 100,000 is decoded" in found["error"]


def test_a_body_without_a_length_is_cut_off_where_it_is_too_long(server: Server) -> None:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    with socket.create_connection((host, port), timeout=30) as raw:
        head = ("POST /classify HTTP/1.1", "Host: localhost", "Content-Type: image/png", "Transfer-Encoding: chunked")
        raw.sendall("\r\n".join([*head, "", ""]).encode())
        for _ in range(6):
            raw.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert b"413" in raw.recv(1000).split(b"\r\n")[0]


def test_the_page_comes_with_all_it_needs_and_may_load_nothing_else(server: Server) -> None:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    from http.client import HTTPConnection

    connection = HTTPConnection(host, port)
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
        assert response.headers["Content-Type"].startswith(kind)
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
        assert "http://" not in text
        assert "https://" not in text
    connection.close()


def test_a_token_is_asked_for_but_by_the_page_and_health(bank: vpt.PromptBank) -> None:
    with running(bank, token=TOKEN) as found:
        for path in ("/tasks", "/metrics", "/openapi.json", "/images/0"):
            assert ask(found, path)[0] == 401
            assert ask(found, path, headers={"Authorization": "Bearer another"})[0] == 401
        assert ask(found, "/classify", picture())[0] == 401
        assert ask(found, "/tasks", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert ask(found, "/health")[0] == 200
        assert ask(found, "/page.js")[0] == 200


def test_other_machines_are_let_in_with_a_token_alone(bank: vpt.PromptBank) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.7", "my-machine"):
        with pytest.raises(VptError, match="lets other machines in: give a token"):
            make_server(bank, host=host)
    with pytest.raises(VptError, match="a token of 5 letters is easily guessed"):
        make_server(bank, token="guess")


def test_tasks_come_and_go_while_it_serves(bank: vpt.PromptBank, server: Server, tmp_path: Path) -> None:
    vpt.create("vpt/vit-nano", "vpt-shallow", classes=["a", "b"], num_tokens=2).save_pretrained(tmp_path / "letters")
    bank.add("letters", tmp_path / "letters")
    try:
        assert ask(server, "/classify", picture(), task="letters")[1]["results"][0]["label"] in ("a", "b")
    finally:
        bank.remove("letters")
    assert ask(server, "/classify", picture(), task="letters")[0] == 404


class Held:
    """A bank that answers when it is let."""

    def __init__(self, bank: vpt.PromptBank) -> None:
        self._bank, self.may_answer = bank, Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bank, name)

    def __len__(self) -> int:
        return len(self._bank)

    def logits_of(self, *given: Any) -> Any:
        assert self.may_answer.wait(60)
        return self._bank.logits_of(*given)


def test_what_takes_too_long_and_what_is_too_many_are_told_so(bank: vpt.PromptBank) -> None:
    held = Held(bank)
    with running(held, limits=Limits(seconds=0.4, waiting=2, batch=1)) as found, ThreadPoolExecutor(8) as pool:
        statuses = [
            status for status, _ in pool.map(lambda _: ask(found, "/classify", picture(), task="pets"), range(8))
        ]
        assert set(statuses) == {503, 504}
        assert ask(found, "/health")[0] == 200
        held.may_answer.set()


def test_what_is_being_answered_when_it_ends_is_answered(bank: vpt.PromptBank) -> None:
    held = Held(bank)
    with ThreadPoolExecutor(4) as pool:
        with running(held, limits=Limits(batch=1)) as found:
            asked = [pool.submit(ask, found, "/classify", picture(seed=i), task="pets") for i in range(4)]
            # One is with the bank, the others are in the queue.
            while found.config.app.state.batcher.waiting() < 3:
                assert not any(each.done() for each in asked)
            Timer(0.1, held.may_answer.set).start()
        assert [each.result()[0] for each in asked] == [200] * 4


def test_no_request_comes_behind_the_end_where_nobody_would_answer_it(bank: vpt.PromptBank) -> None:
    from vpt.serving.batching import Batcher, BusyError

    batcher, answered = Batcher(bank), []

    def ask_on() -> None:
        while True:
            try:
                answered.append(batcher.run(lambda: 1))
            except BusyError as error:
                if "shutting down" in str(error):
                    return

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        batcher.close()
        assert all(each.result() is None for each in asking)
    assert all(each.result(timeout=60) == 1 for each in answered)


def test_a_strip_that_becomes_thinner_than_a_pixel_is_refused_in_a_sentence(tmp_path: Path) -> None:
    bordered = vpt.create("vpt/vit-nano", "linear", classes=["a", "b"], preprocessing={"crop_mode": "border"})
    bordered.save_pretrained(tmp_path / "bordered")
    bank = vpt.PromptBank.open(tmp_path / "bordered", device="cpu")
    sentence = "of 1 × 100 pixels, cannot be transformed"
    with pytest.raises(VptError, match=sentence):
        bank.predict(Image.new("RGB", (1, 100)), "bordered")
    with running(bank) as found:
        status, answer = ask(found, "/classify", picture(1, 100))
    assert status == 422
    assert sentence in answer["error"]


def test_images_of_a_folder_are_searched_by_text(tmp_path: Path) -> None:
    from vpt.serving.gallery import Gallery

    (tmp_path / "photos" / "below").mkdir(parents=True)
    for name in ("one.png", "below/two.png", "three.png"):
        (tmp_path / "photos" / name).write_bytes(picture(seed=len(name)))
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    model = vpt.create("vpt/clip-nano", "zero-shot", classes=["a dog", "a car"])
    model.save_pretrained(tmp_path / "things")
    bank = vpt.PromptBank.open(tmp_path / "things", device="cpu")
    gallery = Gallery(bank, tmp_path / "photos")
    hits = gallery.search("a dog", 2)
    assert len(hits) == 2
    assert hits[0].similarity >= hits[1].similarity
    frozen = vpt.create("vpt/clip-nano", "zero-shot", head="text")
    transform = frozen.preprocessing.transform()
    image = transform(Image.open(tmp_path / "photos" / hits[0].name).convert("RGB"))[None]
    features, text = frozen.compare(image, frozen.tokenize(["a dog"]))
    assert hits[0].similarity == pytest.approx((features @ text.T).item(), abs=1e-4)
    with running(bank, gallery=gallery) as found:
        status, answer = ask(found, "/search", text="a dog", top=3)
        assert status == 200
        assert {hit["name"] for hit in answer["results"]} == {"one.png", "below/two.png", "three.png"}
        assert ask(found, f"/images/{answer['results'][0]['number']}")[1][:2] == b"\xff\xd8"
        assert ask(found, "/images/7")[0] == 404
        # One that is gone is told by its number: where the service keeps its files is nobody's business.
        (tmp_path / "photos" / answer["results"][0]["name"]).unlink()
        number = answer["results"][0]["number"]
        assert ask(found, f"/images/{number}") == (422, {"error": f"image {number} can no longer be read."})
        assert ask(found, "/search", text="")[0] == 422


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_a_folder_and_ends_well_when_it_is_told(tmp_path: Path, kind: int) -> None:
    small_bank(tmp_path / "bank")
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "vpt", "serve", str(tmp_path / "bank"), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=root, text=True) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        url = next(found[1] for line in said if (found := re.search(r"serving at (http://127\.0\.0\.1:\d+)", line)))
        from urllib.request import Request, urlopen

        request = Request(f"{url}/classify?task=digits", picture(), {"Content-Type": "image/png"})
        with urlopen(request, timeout=60) as response:
            assert json.load(response)["results"][0]["label"] in DIGITS
        process.send_signal(kind)
        assert process.wait(60) == 0
        assert process.stderr.read().strip().endswith("ended.")


def test_the_command_asks_for_a_token_before_anything_is_loaded(tmp_path: Path) -> None:
    from vpt.cli import main

    assert main(["serve", str(tmp_path / "nothing"), "--host", "0.0.0.0"]) == 2
