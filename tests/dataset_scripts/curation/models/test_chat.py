"""Endpoint client, journal and account; the in-process model. (`transformers serve`: test_end_to_end.py.)"""

import json
import logging
import threading

import pytest

from dataset_scripts.curation.models.account import FIRST, StoppedEarly
from dataset_scripts.curation.models.chat import Chat, Verdict
from dataset_scripts.curation.models.endpoint import EndpointBackend
from dataset_scripts.curation.models.journal import Journal
from dataset_scripts.curation.models.messages import Answer, ChatSettings, Request
from dataset_scripts.curation.models.prompts import load_prompt
from dataset_scripts.curation.steps.negatives import Negatives, NegativeSettings
from dataset_scripts.curation.steps.recaption import Recaption, RecaptionSettings
from tests.dataset_scripts.curation.chat_server import completion, serve
from tests.dataset_scripts.curation.curation_models import scene, write_captioner, write_chat_model
from tests.dataset_scripts.curation.schema_server import small_model


def settings(url, **values):
    return ChatSettings(**{"base_url": url, "model": "m", "timeout": 60, "retries": 2, **values})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The client waits half a second before its first retry."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)


def take(positions, answers):
    return [Verdict(answer, int(answer.failure is None), 1, answer.failure) for answer in answers]


def ask(url, *requests, journal=None, chat=None, **values):
    chat = chat or Chat(settings(url, **values))
    if journal is not None:
        chat.journal = journal
    verdicts = chat.ask(requests or (Request("s", "u"),), take)
    return [verdict.value for verdict in verdicts], chat.account


def test_request_and_answer(tmp_path):
    with serve(lambda request, n: completion("A red ball.", "length")) as (url, seen):
        chat = Chat(settings(url, prompt_price=2))
        with chat.opened(tmp_path / "j", tmp_path / "p"):
            (answer,), account = ask(url, Request("be brief", "what is it?", scene(0)[0], seed=3), chat=chat)
    assert (answer.text, answer.finish_reason, answer.cut) == ("A red ball.", "length", True)
    assert (account.counts["prompt_tokens"], account.counts["completion_tokens"]) == (7, 3)
    assert account.to_dict()["cost"] == pytest.approx(14e-6)
    system, user = seen[0]["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert user["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert user["content"][1]["text"] == "what is it?"
    assert seen[0]["seed"] == 3


BODY = (
    '{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"é"}],"max_tokens":512,'
    '%s"seed":0,"temperature":0.0}'
)
SCHEMA = '{"type":"array","items":{"type":"string","maxLength":9},"minItems":2,"maxItems":2}'
FORMS = {
    "json_schema": f'"response_format":{{"type":"json_schema","json_schema":{{"name":"answer","schema":{SCHEMA}}}}},',
    "tgi": f'"response_format":{{"type":"json_object","value":{SCHEMA}}},',
    "none": "",
}


@pytest.mark.parametrize("form", FORMS)
def test_the_three_forms_of_a_request_byte_by_byte(form):
    with serve(lambda request, n: completion('["a", "b"]')) as (url, seen):
        ask(url, Request("s", "é", schema=json.loads(SCHEMA)), structured_output=form)
    assert seen.body.decode() == BODY % FORMS[form]


def test_the_schema_says_how_many_and_how_long():
    schema = load_prompt("negatives_v2").fill_schema(count=7, length=33)["properties"]["negatives"]
    assert (schema["minItems"], schema["maxItems"], schema["items"]["maxLength"]) == (7, 7, 33)


def test_a_server_that_refuses_the_schema_is_asked_without_and_said_so_once(caplog):
    def answer(request, n):
        return 400 if "response_format" in request else completion("[]")

    with serve(answer) as (url, seen), caplog.at_level(logging.WARNING):
        requests = [Request("s", str(i), schema={"type": "array"}) for i in range(30)]
        answers, _ = ask(url, *requests, concurrency=1)
    assert [a.failure for a in answers] == [None] * 30
    assert sum("response_format" in request for request in seen) == 1
    (record,) = caplog.records
    assert "refuses the JSON schema (HTTP 400" in record.message


def test_a_refusal_of_something_else_is_no_refusal_of_the_schema():
    with serve(lambda request, n: 400) as (url, seen):
        chat = Chat(settings(url))
        (answer,), _ = ask(url, Request("s", "u", schema={"type": "array"}), chat=chat)
    assert (answer.failure, chat.backend.refusal, len(seen)) == ("HTTP 400", None, 2)


def test_a_server_that_ignores_the_schema_is_recognized_by_the_first_answers(caplog):
    cut = '{"negatives": [{"color": "red"}, {"col'
    schema = load_prompt("negatives_v2").fill_schema(count=2, length=9)
    requests = [Request("s", str(i), schema=schema) for i in range(2 * FIRST)]
    with serve(lambda request, n: completion(cut, "length")) as (url, _), caplog.at_level(logging.WARNING):
        ask(url, *requests)
        assert len(caplog.records) == 1
        assert "seems to ignore it (['negatives'][0] breaks 'type'" in caplog.text
        ask(url, *requests, structured_output="none")
    with serve(lambda request, n: completion('{"negatives": ["a", "b', "length")) as (url, _):
        ask(url, *requests)  # cut, but as the schema wants it
    assert len(caplog.records) == 1


def useless(positions, answers):
    return [Verdict(None, 0, 10, "object changed") for _ in answers]


def test_almost_nothing_is_said_after_twenty_answers_and_stop_below_stops(tmp_path, caplog):
    requests = [Request("s", str(i)) for i in range(60)]
    with serve(lambda request, n: completion(f"a {request['messages'][1]['content']} dog")) as (url, seen):
        with caplog.at_level(logging.WARNING):
            Chat(settings(url)).ask(requests, useless)
        (record,) = caplog.records
        assert "After 20 requests 0% of what was asked for can be used" in record.message
        assert "object changed (20)" in record.message
        assert record.message.count(" dog'") == 2
        del seen[:]
        stopping = settings(url, stop_below=0.05, concurrency=2)
        for _ in range(2):  # a second run finds its answers in the journal, and asks for none
            chat = Chat(stopping)
            stopped = pytest.raises(StoppedEarly, match=r"After 20 requests 0\.0% .* object changed \(20\)")
            with stopped, chat.opened(tmp_path / "j", tmp_path / "p"):
                chat.ask(requests, useless)
    assert 20 <= len(seen) <= 42  # what was under way, and what came while twenty were judged


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_retried(status):
    with serve(lambda request, n: status if n <= 2 else completion("ok")) as (url, seen):
        (answer,), account = ask(url)
    assert (answer.text, answer.retries, account.counts["retries"], len(seen)) == ("ok", 2, 2, 3)
    assert not account.failures


@pytest.mark.parametrize(
    ("reply", "failure", "asked"),
    [
        (500, "HTTP 500", 3),
        (400, "HTTP 400", 1),
        (401, "HTTP 401", 1),
        (b"<html>", "malformed answer", 1),
        (b"{}", "malformed answer", 1),
        (b'{"choices": []}', "malformed answer", 1),
        (1.5, "time-out", 3),
    ],
)
def test_lasting_failures_have_names(reply, failure, asked):
    with serve(lambda request, n: reply) as (url, seen):
        (answer,), account = ask(url, timeout=0.3 if failure == "time-out" else 60)
    assert (answer.failure, answer.text) == (failure, "")
    assert account.failures == {failure: 1}
    assert len(seen) == asked


def test_nobody_there_is_a_named_failure():
    with serve(lambda request, n: completion("")) as (url, _):
        pass
    (answer,), _ = ask(url, retries=1)
    assert answer.failure == "connection"


def test_concurrency_is_what_was_asked_for():
    gate, inside, most = threading.Lock(), [0], [0]
    barrier = threading.Barrier(4, timeout=60)

    def answer(request, n):
        with gate:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        barrier.wait()
        with gate:
            inside[0] -= 1
        return completion(request["messages"][1]["content"])

    with serve(answer) as (url, _):
        answers, _ = ask(url, *[Request("s", str(i)) for i in range(12)], concurrency=4)
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
        assert account.counts["reused"] == 3
        with Journal(path) as journal:
            assert ask(url, *requests, journal=journal)[1].counts["reused"] == 5
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
        ({"stop_below": 2}, "stop_below is 2"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        settings("http://127.0.0.1/v1", **values)


def test_key_is_read_from_the_named_variable(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sesame")
    backend = EndpointBackend(settings("http://127.0.0.1:1/v1", api_key_env="MY_KEY"))
    assert backend._client.api_key == "sesame"


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


BOX = {"bbox": [0, 0, 1, 1], "score": 1.0, "long_expr": None, "negatives": []}
COLORS = ["blue", "green", "yellow", "white", "black", "brown", "pink", "purple", "silver", "gold", "teal", "beige"]


def regions(*expressions):
    boxes = [[0, i / 10, 1, (i + 1) / 10] for i in range(len(expressions))]
    return [{**BOX, "bbox": box, "short_expr": text} for box, text in zip(boxes, expressions, strict=True)]


def test_negatives_by_a_model_are_checked_and_missing_ones_asked_again():
    first = [f"a {c} train" for c in COLORS[:7]] + ["a blue bus", "a red train", "a blue train"]
    answers = [first, [f"a {c} train" for c in COLORS]]
    with serve(lambda request, n: completion(json.dumps({"negatives": answers[min(n, 2) - 1]}))) as (url, seen):
        step = Negatives(NegativeSettings(method="llm", chat=settings(url)))
        result = step({**image_batch(1), "regions": [regions("a red train", "a train")]})
    described, plain = result["regions"][0]
    assert described["negatives"] == [f"a {c} train" for c in COLORS[:10]]
    assert described["sources"] == ["llm"] * 10
    assert plain["negatives"] == []  # nothing to change, nothing asked
    assert len(seen) == 2
    usage = step.chat.account.to_dict()
    assert (usage["requests"], usage["round 1: kept"], usage["round 2: kept"]) == (2, 7, 3)
    assert (step.counts["checked by llm"], step.counts["passed by llm"]) == (22, 12)
    # the second round asks for what is missing, and says what was wrong
    again = seen[1]["messages"][1]["content"]
    assert "exactly 5 different" in again
    assert '- "a blue bus": it does not keep every object and its name' in again
    assert '- "a green train": already given' in again
    assert seen[1]["response_format"]["json_schema"]["schema"]["properties"]["negatives"]["maxItems"] == 5
    assert seen[1]["seed"] == seen[0]["seed"] + 1


def test_rules_fill_up_what_a_model_does_not_give_and_each_negative_says_who_made_it():
    few = json.dumps({"negatives": ["a blue train", "a orange train", "a red bus"]})
    with serve(lambda request, n: completion(few)) as (url, _):
        chosen = NegativeSettings(method="mixed", chat=settings(url), rounds=1)
        step = Negatives(chosen)
        result = step({**image_batch(1), "regions": [regions("a red train", "a rusty old train", "a train")]})
    mixed, by_model_alone, plain = result["regions"][0]
    assert mixed["negatives"][:2] == ["a blue train", "an orange train"]
    assert mixed["sources"] == ["llm"] * 2 + ["rules"] * 8
    assert len({text.casefold() for text in mixed["negatives"]}) == 10
    assert step.checker.reasons("a red train", mixed["negatives"]) == [None] * 10
    assert by_model_alone["negatives"] == plain["negatives"] == []  # no word that rules could swap
    assert step.counts["negatives by llm"] == 2
    assert step.counts["negatives by rules"] == 8


@pytest.mark.parametrize("explain", [True, False])
def test_a_model_that_is_told_what_was_wrong_gives_more_in_the_second_round(explain):
    """Not by the model's merit: the stand-in repeats itself unless it is told."""
    with serve(small_model) as (url, _):
        step = Negatives(NegativeSettings(method="llm", chat=settings(url), explain=explain, minimum=1, rounds=3))
        step({**image_batch(1), "regions": [regions("a red train", "a blue wooden box", "a white cup")]})
    usage = step.chat.account.to_dict()
    assert usage["round 1: kept"] > 10
    assert usage["round 2: kept"] > 0


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return write_captioner(tmp_path_factory.mktemp("captioner"))


def test_local_model_with_images_in_batches_is_the_model_one_by_one(captioner):
    requests = [Request("s", "describe" + " it" * i, scene(i)[0]) for i in range(3)]
    results = []
    for size in (3, 1):
        chosen = ChatSettings(backend="local", model=str(captioner), max_tokens=8, batch_size=size, device="cpu")
        answers, account = ask("", *requests, chat=Chat(chosen))
        results.append(answers)
        assert account.counts["completion_tokens"] > 0
    assert results[0] == results[1]
    assert all(isinstance(a, Answer) and a.failure is None and 0 < a.completion_tokens <= 8 for a in results[0])
    # the prompt counts what is there, without the padding of the batch
    assert results[0][0].prompt_tokens < results[0][2].prompt_tokens


def test_local_language_model_answers_text_and_refuses_images(tmp_path):
    chosen = ChatSettings(backend="local", model=str(write_chat_model(tmp_path)), max_tokens=6, device="cpu")
    chat = Chat(chosen)
    answers, _ = ask("", Request("s", "a"), Request("s", "another one"), chat=chat)
    assert all(a.failure is None for a in answers)
    with pytest.raises(ValueError, match="takes no images"):
        ask("", Request("s", "a", scene(0)[0]), chat=chat)
