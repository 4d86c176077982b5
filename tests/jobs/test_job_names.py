"""Jobs, their ids and their payloads: no server needed."""

from __future__ import annotations

import pickle

import msgspec
import pytest
from arq.jobs import deserialize_job_raw, serialize_job

from kiebot.jobs import names
from kiebot.jobs.keys import QueueKeys
from kiebot.jobs.names import Job
from kiebot.jobs.pool import deserialize, serialize


def test_a_job_carries_its_row_and_the_rows_revision() -> None:
    job = names.advance("9f0c", 4, delay_s=2.5)
    assert (job.name, job.args, job.id, job.delay_s) == ("advance", ("9f0c", 4), "advance:9f0c:4", 2.5)


def test_every_kind_of_job_row_and_revision_has_an_id_of_its_own() -> None:
    jobs = [
        job
        for row in (1, 11)
        for revision in (1, 2, 11)
        for job in (
            names.drain_lane(str(row), revision),
            names.advance(str(row), revision),
            names.deliver(row, revision),
            names.refresh_card(str(row), revision),
            names.repay(row, revision),
        )
    ]
    assert len({job.id for job in jobs}) == len(jobs)


def test_a_job_without_a_name_or_due_in_the_past_is_refused() -> None:
    with pytest.raises(ValueError, match="not a job"):
        Job("", (), "x")
    with pytest.raises(ValueError, match="not a job"):
        Job("note", (), "x", -1.0)


def test_two_kiebots_on_one_redis_share_no_job_id() -> None:
    job = names.deliver(7, 1)
    assert QueueKeys("anna").job_id(job.id) != QueueKeys("bert").job_id(job.id)
    with pytest.raises(ValueError, match="prefix"):
        QueueKeys("")


def test_a_payload_survives_the_wire() -> None:
    payload = serialize_job("note", ("chat:7", 3), {"word": "x"}, None, 1700000000000, serializer=serialize)
    read = deserialize_job_raw(payload, deserializer=deserialize)
    assert list(read) == ["note", ("chat:7", 3), {"word": "x"}, None, 1700000000000]


def test_a_payload_of_a_newer_version_is_still_read() -> None:
    newer: dict[str, object] = {"t": None, "f": "note", "a": [1], "k": {}, "et": 1, "new": [{"field": 1}]}
    assert deserialize(msgspec.msgpack.encode(newer))["a"] == (1,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_unread(protocol: int) -> None:
    with pytest.raises(msgspec.DecodeError):
        deserialize(pickle.dumps({"t": None, "f": "note", "a": (1,), "k": {}, "et": 1}, protocol))


@pytest.mark.parametrize(
    "wrong",
    [
        {"f": "note", "a": [], "k": {}},
        {"t": None, "f": 5, "a": [], "k": {}, "et": 1},
        {"t": None, "f": "note", "a": [{"a": "payload"}], "k": {}, "et": 1},
        ["note"],
    ],
)
def test_a_payload_of_another_shape_is_refused(wrong: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        deserialize(msgspec.msgpack.encode(wrong))


def test_the_error_of_a_failed_job_is_written_by_its_name_only() -> None:
    assert msgspec.msgpack.decode(serialize({"r": ValueError("secret")})) == {"r": "ValueError"}
    with pytest.raises(NotImplementedError):
        serialize({"r": object()})
