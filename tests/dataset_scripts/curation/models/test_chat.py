"""Endpoint client, journal and account; the in-process model. (`transformers serve`: test_curation_end_to_end.py.)"""

import json
import threading

import pytest

from dataset_scripts.curation.models.chat import Account, Answer, ChatSettings, Journal, Request, ask_all, make_backend
from dataset_scripts.curation.models.endpoint import EndpointBackend
from dataset_scripts.curation.steps.negatives import Negatives, NegativeSettings
from dataset_scripts.curation.steps.recaption import Recaption, RecaptionSettings
from tests.dataset_scripts.curation.chat_server import completion, serve
from tests.dataset_scripts.curation.curation_models import scene, write_captioner, write_chat_model


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The suite forbids the network; these tests use loopback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def settings(url, **values):
    return ChatSettings(**{"base_url": url, "model": "m", "timeout": 5, "backoff": 0.01, "retries": 3, **values})


def ask(url, *requests, journal=None, **values):
    chosen, account = settings(url, **values), Account()
    requests = requests or (Request("s", "u"),)
    return ask_all(make_backend(chosen), chosen, requests, Journal() if journal is None else journal, account), account


def test_request_and_answer():
    with serve(lambda request, n: completion("A red ball.", "length")) as (url, seen):
        (answer,), account = ask(
            url, Request("be brief", "what is it?", scene(0)[0], {"type": "object"}, seed=3), prompt_price=2
        )
    assert (answer.text, answer.finish_reason) == ("A red ball.", "length")
    assert (account.prompt_tokens, account.completion_tokens) == (7, 3)
    assert account.cost(ChatSettings(model="m", base_url="http://x", prompt_price=2)) == pytest.approx(14e-6)
    system, user = seen[0]["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert user["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert user["content"][1]["text"] == "what is it?"
    assert seen[0]["response_format"] == {"type": "json_object", "value": {"type": "object"}}  # TGI's form
    assert seen[0]["seed"] == 3


def test_schema_for_vllm_or_for_nobody():
    with serve(lambda request, n: completion("{}")) as (url, seen):
        for way in ("vllm", "none"):
            ask(url, Request("s", "u", schema={"type": "object"}), structured_output=way)
    assert seen[0]["structured_outputs"] == {"json": {"type": "object"}}
    assert not {"structured_outputs", "response_format"} & set(seen[1])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_retried(status):
    with serve(lambda request, n: status if n <= 2 else completion("ok")) as (url, seen):
        (answer,), account = ask(url)
    assert (answer.text, answer.retries, account.retries, len(seen)) == ("ok", 2, 2, 3)
    assert not account.failures


@pytest.mark.parametrize(
    ("reply", "failure", "asked"),
    [
        (500, "HTTP 500", 4),
        (400, "HTTP 400", 1),
        (401, "HTTP 401", 1),
        (b"<html>", "malformed answer", 4),
        (1.5, "time-out", 4),
    ],
)
def test_lasting_failures_have_names(reply, failure, asked):
    with serve(lambda request, n: reply) as (url, seen):
        (answer,), account = ask(url, timeout=0.3)
    assert (answer.failure, answer.text) == (failure, "")
    assert account.failures == {failure: 1}
    assert len(seen) == asked


def test_nobody_there_is_a_named_failure():
    with serve(lambda request, n: completion("")) as (url, _):
        pass
    (answer,), _ = ask(url, retries=1)
    assert answer.failure == "connection"


def test_back_off_doubles_is_capped_and_heeds_retry_after():
    pauses = []
    with serve(lambda request, n: (429, {"Retry-After": "7"}) if n == 1 else 500) as (url, _):
        chosen = settings(url, backoff=1, max_backoff=3, retries=4)
        EndpointBackend(chosen, sleep=pauses.append).ask([Request("s", "u")], lambda *_: None)
    assert pauses[0] == 3  # 7, capped
    assert 1 <= pauses[1] <= 2
    assert all(1.5 <= pause <= 3 for pause in pauses[2:])


def test_concurrency_is_what_was_asked_for():
    gate, inside, most = threading.Lock(), [0], [0]
    barrier = threading.Barrier(4, timeout=20)

    def answer(request, n):
        with gate:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        barrier.wait()
        with gate:
            inside[0] -= 1
        return completion(request["messages"][1]["content"])

    with serve(answer) as (url, _):
        answers, _ = ask(url, *[Request("s", str(i)) for i in range(12)], concurrency=4, timeout=30)
    assert most[0] == 4
    assert [a.text for a in answers] == [str(i) for i in range(12)]


def test_journal_answers_what_it_knows_and_survives_a_cut_line(tmp_path):
    path = tmp_path / "journal" / "0.jsonl"
    requests = [Request("s", str(i)) for i in range(5)]
    with serve(lambda request, n: completion(request["messages"][1]["content"])) as (url, seen):
        with Journal(path) as journal:
            ask(url, *requests[:3], journal=journal, concurrency=1)
        path.write_bytes(path.read_bytes()[:-20])  # as a kill in mid-write leaves it
        with Journal(path) as journal:
            assert len(journal) == 2
            answers, account = ask(url, *requests, requests[0], journal=journal)
        assert [a.text for a in answers] == ["0", "1", "2", "3", "4", "0"]
        assert len(seen) == 3 + 3  # the cut one and the two new ones
        assert account.reused == 3
        with Journal(path) as journal:
            assert ask(url, *requests, journal=journal)[1].reused == 5
            # another wording, model, seed or length is another question
            for other in (Request("t", "0"), Request("s", "0", seed=1)):
                ask(url, other, journal=journal)
            ask(url, requests[0], journal=journal, model="n")
            ask(url, requests[0], journal=journal, max_tokens=5)
        assert len(seen) == 10


def test_failures_are_not_kept(tmp_path):
    with serve(lambda request, n: 400 if n == 1 else completion("ok")) as (url, _):
        for expected in ("HTTP 400", None):
            with Journal(tmp_path / "j.jsonl") as journal:
                (answer,), _ = ask(url, journal=journal)
            assert answer.failure == expected


def test_offline_hub_is_explained(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE"):
        make_backend(settings("http://127.0.0.1:1/v1"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": ""}, "chat.model is empty"),
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"backend": "magic"}, "backend is 'magic'"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"timeout": 0}, "timeout is 0"),
        ({"structured_output": "xml"}, "structured_output is 'xml'"),
        ({"retries": -1}, "retries is -1"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        settings("http://127.0.0.1/v1", **values)


def test_key_is_read_from_the_named_variable(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sesame")
    backend = EndpointBackend(settings("http://127.0.0.1:1/v1", api_key_env="MY_KEY"))
    assert backend._client.headers.get("authorization", backend._client.token) in ("Bearer sesame", "sesame")


def image_batch(number, captions=None):
    return {
        "source_id": [str(i) for i in range(number)],
        "image": [scene(i)[0] for i in range(number)],
        "caption": captions or [None] * number,
        "short_captions": [["alt"]] * number,
        "expressions": [[] for _ in range(number)],
        "regions": [[] for _ in range(number)],
        "failures": [[] for _ in range(number)],
    }


def test_recaption_names_what_went_wrong_and_keeps_what_there_was():
    replies = [
        completion("A red ball lies on a green table."),
        completion("I'm sorry, I can't see the image."),
        completion(""),
        400,
        completion("A yellow box stands here on a table. It is ye", "length"),
        completion("A never ending", "length"),
    ]
    with serve(lambda request, n: replies[n - 1]) as (url, seen):
        step = Recaption(RecaptionSettings(chat=settings(url, concurrency=1), hint=True))
        result = step(image_batch(7, [None] * 6 + ["there already"]))
    assert result["caption"] == ["A red ball lies on a green table.", None, None, None,
                                 "A yellow box stands here on a table.", None, "there already"]  # fmt: skip
    assert result["failures"] == [[], ["recaption: refusal"], ["recaption: empty answer"], ["recaption: HTTP 400"], [],
                                  ["recaption: empty answer (cut off)"], []]  # fmt: skip
    assert '"alt"' in seen[0]["messages"][1]["content"][1]["text"]


def test_negatives_by_a_model_are_checked_and_missing_ones_asked_again():
    colors = [
        "blue",
        "green",
        "yellow",
        "white",
        "black",
        "brown",
        "pink",
        "purple",
        "silver",
        "gold",
        "teal",
        "beige",
    ]
    first = [f"a {c} train" for c in colors[:7]] + ["a blue bus", "a red train", "a blue train"]
    second = [f"a {c} train" for c in colors]
    answers = [first, second]
    with serve(lambda request, n: completion(json.dumps({"negatives": answers[min(n, 2) - 1]}))) as (url, seen):
        step = Negatives(NegativeSettings(method="llm", chat=settings(url)))
        region = {"bbox": [0, 0, 1, 1], "score": 1.0, "short_expr": "a red train", "long_expr": None, "negatives": []}
        plain = {**region, "short_expr": "a train"}
        result = step({**image_batch(1), "regions": [[region, plain]]})
    assert result["regions"][0][0]["negatives"] == [f"a {c} train" for c in colors[:10]]
    assert result["regions"][0][1]["negatives"] == []  # nothing to change, nothing asked
    assert len(seen) == 2
    assert step.usage()["requests"] == 2


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return write_captioner(tmp_path_factory.mktemp("captioner"))


def test_local_model_with_images_in_batches_is_the_model_one_by_one(captioner):
    requests = [Request("s", "describe" + " it" * i, scene(i)[0]) for i in range(3)]
    results = []
    for size in (3, 1):
        chosen = ChatSettings(backend="local", model=str(captioner), max_tokens=8, batch_size=size, device="cpu")
        account = Account()
        results.append(ask_all(make_backend(chosen), chosen, requests, Journal(), account))
        assert account.completion_tokens > 0
    assert results[0] == results[1]
    assert all(isinstance(a, Answer) and a.failure is None and 0 < a.completion_tokens <= 8 for a in results[0])
    # the prompt counts what is there, without the padding of the batch
    assert results[0][0].prompt_tokens < results[0][2].prompt_tokens


def test_local_language_model_answers_text_and_refuses_images(tmp_path):
    chosen = ChatSettings(backend="local", model=str(write_chat_model(tmp_path)), max_tokens=6, device="cpu")
    backend = make_backend(chosen)
    answers = ask_all(backend, chosen, [Request("s", "a"), Request("s", "another one")], Journal(), Account())
    assert all(a.failure is None for a in answers)
    with pytest.raises(ValueError, match="takes no images"):
        ask_all(backend, chosen, [Request("s", "a", scene(0)[0])], Journal(), Account())
