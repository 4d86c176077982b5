"""KIE's JSON and what is made of it: three generations of records, the shapes of results, sentences and codes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiebot.errors import (
    Transient,
)
from kiebot.generation.ports import TaskReport, TaskState
from kiebot.kie.outputs import Outputs, outputs_of, safe_text
from kiebot.kie.wire import millicredits_of, read_envelope, report_of

TASK = "0123456789abcdef0123456789abcdef"
A, B = "https://files.example/a.png", "https://files.example/b.png"
LEAN = {
    "taskId": TASK,
    "model": "z-image",
    "state": "waiting",
    "param": '{"input":"{\\"prompt\\":\\"x\\"}","model":"z-image"}',
    "resultJson": "",
    "failCode": None,
    "failMsg": None,
    "costTime": None,
    "completeTime": None,
    "createTime": 1790000000000,
}
DOCUMENTED = {**LEAN, "param": {"input": {"prompt": "x"}}, "failCode": "", "failMsg": "", "costTime": 9000}
NEWEST = {
    **LEAN,
    "creditsConsumed": 0.8,
    "updateTime": 1790000000000,
    "successFlag": 0,
    "response": None,
    "progress": None,
}
GENERATIONS = pytest.mark.parametrize("record", [LEAN, DOCUMENTED, NEWEST], ids=["lean", "documented", "newest"])


def report(data: object, *, code: object = 200, msg: str = "success") -> TaskReport:
    envelope = read_envelope(json.dumps({"code": code, "msg": msg, "data": data}).encode())
    assert envelope is not None
    return report_of(envelope, TASK)


@GENERATIONS
@pytest.mark.parametrize("state", ["waiting", "queuing", "generating", "polishing", "GENERATING"])
def test_every_word_that_is_not_an_end_means_running(record: dict[str, Any], state: str) -> None:
    assert report({**record, "state": state}).state is TaskState.RUNNING


@GENERATIONS
def test_success_gives_the_addresses(record: dict[str, Any]) -> None:
    done = report({**record, "state": "success", "resultJson": json.dumps({"resultUrls": [A, B]})})
    assert (done.state, done.urls, done.failure) == (TaskState.SUCCEEDED, (A, B), None)


@GENERATIONS
@pytest.mark.parametrize("code", ["500", 500, "GENERATION_FAILED"])
@pytest.mark.parametrize("result", ["", None])
def test_failure_gives_a_word_and_kies_sentence(record: dict[str, Any], code: object, result: object) -> None:
    failed = report(
        {
            **record,
            "state": "fail",
            "failCode": code,
            "failMsg": "Internal Error, Please try again later.",
            "resultJson": result,
        }
    )
    assert (failed.state, failed.failure, failed.retryable) == (TaskState.FAILED, "server", True)
    assert failed.detail == "Internal Error, Please try again later."


def test_the_flag_counts_only_where_there_is_no_word() -> None:
    record = {**NEWEST, "response": {"resultUrls": [A]}, "successFlag": 1}
    assert report({**record, "state": None}).state is TaskState.SUCCEEDED
    assert report({**record, "state": "generating"}).state is TaskState.RUNNING
    assert report({**record, "state": "", "successFlag": 3}).state is TaskState.FAILED


def test_credits_are_read_under_both_names_as_whole_millicredits() -> None:
    assert report({**LEAN, "creditsConsumed": 0.8}).consumed_millicredits == 800
    assert report({**LEAN, "consumeCredits": "5916.25"}).consumed_millicredits == 5_916_250
    assert report({**LEAN, "state": "fail", "creditsConsumed": 0}).consumed_millicredits == 0
    assert report(LEAN).consumed_millicredits is None


@pytest.mark.parametrize(
    "result", ["", None, "{}", '{"resultUrls":[]}', '{"resultUrls":[""]}', "null", '{"resultUrls":[7]}']
)
def test_a_success_without_output_is_a_failure_of_its_own(result: object) -> None:
    empty = report({**NEWEST, "state": "success", "resultJson": result})
    assert (empty.state, empty.failure, empty.retryable) == (TaskState.FAILED, "empty_result", True)
    assert empty.consumed_millicredits == 800


def test_a_record_sent_as_text_is_read_all_the_same() -> None:
    assert report(json.dumps({**LEAN, "creditsConsumed": 0.8})).consumed_millicredits == 800


@pytest.mark.parametrize(("code", "data"), [(501, None), (408, None), (531, LEAN), ("501", {"failMsg": "timed out"})])
def test_an_envelope_may_tell_of_a_failed_task(code: object, data: object) -> None:
    failed = report(data, code=code, msg="Playground task failed.")
    assert (failed.state, failed.retryable) == (TaskState.FAILED, True)


@pytest.mark.parametrize(
    ("code", "msg", "data"),
    [
        (422, "recordInfo is null", None),
        (422, "The record does not exist", None),
        (404, "", None),
        (200, "success", None),
        (200, "", ""),
    ],
)
def test_a_task_that_kie_does_not_know_is_missing(code: int, msg: str, data: object) -> None:
    assert report(data, code=code, msg=msg).state is TaskState.MISSING


@pytest.mark.parametrize(
    ("code", "msg"),
    [
        (422, ""),
        (422, "Ratio error"),
        (422, "The model name you specified is not supported."),
        (422, "Service is currently unavailable due to high demand. Please try again later. (E003)"),
        (404, "Not Found: /api/v1/jobs/recordInfo"),
        (400, "recordInfo is null"),
    ],
)
def test_another_sentence_under_the_same_codes_says_nothing_of_the_task(code: int, msg: str) -> None:
    with pytest.raises(Transient):
        report(None, code=code, msg=msg)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"resultUrls": [A, B, A]}, Outputs((A, B))),
        ({"resultUrls": A}, Outputs((A,))),
        ({"resultUrls": json.dumps([A, B])}, Outputs((A, B))),
        (json.dumps({"resultUrls": [A]}), Outputs((A,))),
        (json.dumps(json.dumps({"resultUrls": [A]})), Outputs((A,))),
        (A, Outputs((A,))),
        (json.dumps(A), Outputs((A,))),
        ([A, B], Outputs((A, B))),
        ({"resultUrls": [A], "resultWaterMarkUrls": [B], "firstFrameUrl": [], "lastFrameUrl": []}, Outputs((A,))),
        ({"resultUrls": ["javascript:alert(1)", "file:///etc/passwd", "https://x/ y", f" {A} "]}, Outputs((A,))),
        (
            {"data": [{"audio_url": A, "stream_audio_url": B, "image_url": B, "title": "t"}, {"audio_url": B}]},
            Outputs((A, B)),
        ),
        ({"data": [{"audio_url": "", "stream_audio_url": B}]}, Outputs((B,))),
        ({"sunoData": [{"audioUrl": A}]}, Outputs((A,))),
        ({"resultObject": {"text": "hello\nworld", "words": []}}, Outputs(text="hello\nworld")),
        ({"resultObject": json.dumps({"text": "hello"})}, Outputs(text="hello")),
        (
            {"resultObject": {"lyricsData": [{"text": "one"}, {"title": "x"}, {"text": "two"}]}},
            Outputs(text="one\n\ntwo"),
        ),
        ({"resultObject": {"mask_urls": [A], "subject_status": "ok"}}, Outputs((A,))),
        ({"resultObject": {"subject_status": "ok"}}, Outputs(text='{"subject_status": "ok"}')),
        ({"character_id": "ch_1"}, Outputs(text="ch_1")),
        ({"resultObject": {}}, Outputs()),
        ({"resultObject": {"text": ""}, "resultUrls": None}, Outputs(text='{"text": ""}')),
        (7, Outputs()),
        ("[" * 100_000, Outputs()),
    ],
)
def test_every_shape_of_a_result_is_read(result: object, expected: Outputs) -> None:
    assert outputs_of(result) == expected


def test_text_keeps_what_languages_need_and_drops_what_a_database_refuses() -> None:
    assert safe_text("a\x00b\ud800c\x1b[1m\n👩‍👩‍👧 می‌خواهم ") == "ab?c[1m\n👩‍👩‍👧 می‌خواهم"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"code": 200}', 200),
        (b'{"code": "429", "message": "slow"}', 429),
        (b'{"code": 200.0}', 200),
        (b'{"code": true}', None),
        (b'{"code": 200.5}', None),
        (b'{"code": "ok"}', None),
        (b'{"code": NaN}', None),
        (b'{"code": 1e999999}', None),
        (b'{"code": null}', None),
        (b'{"error": {"message": "x"}}', None),
        (b"[200]", None),
        (b"", None),
        (b"\xff", None),
        (b'{"code": 200, "data": ', None),
        (b"[" * 100_000, None),
    ],
)
def test_an_envelope_has_a_whole_number_as_code_or_is_none(body: bytes, code: int | None) -> None:
    envelope = read_envelope(body)
    assert (envelope and envelope.code) == code


def test_sentences_are_short_and_name_no_address() -> None:
    envelope = read_envelope(
        json.dumps({"code": 400, "msg": "bad https://h.example/cb/secret?x=1 here" + "!" * 999}).encode()
    )
    assert envelope is not None
    assert envelope.text.startswith("bad [address] here!")
    assert len(envelope.text) == 300


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0029, 2), ("-0.5", -500), (True, None), ("x", None), ("NaN", None), (10**10, None), (None, None)],
)
def test_amounts_become_whole_millicredits_or_nothing(value: object, expected: int | None) -> None:
    assert millicredits_of(value) == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["success", "fail", A, "200"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "code",
                    "msg",
                    "data",
                    "taskId",
                    "state",
                    "resultJson",
                    "response",
                    "resultUrls",
                    "failCode",
                    "failMsg",
                    "successFlag",
                    "resultObject",
                    "creditsConsumed",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(JSON, st.sampled_from([200, 404, 408, 422, 429, 500, 501]))
def test_whatever_the_body_holds_the_answer_is_a_report_or_transient(data: object, code: int) -> None:
    envelope = read_envelope(json.dumps({"code": code, "msg": "m", "data": data}).encode())
    if envelope is None:
        return
    try:
        found = report_of(envelope, TASK)
    except Transient:
        return
    assert isinstance(found, TaskReport)
    json.dumps([found.urls, found.text, found.detail], ensure_ascii=False).encode()
