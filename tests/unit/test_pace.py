"""The rhythm of watching, in the provider's own seconds."""

from __future__ import annotations

import pytest

from kiebot.generation.catalog import model_by_id
from kiebot.generation.pace import Pace
from kiebot.generation.product import Model

PACE = Pace()
DAY_S, MINUTE_S = 86_400.0, 60.0


def of(output: str) -> Model:
    ids = {"image": "z-image", "audio": "ai-music-api/generate", "video": "kling-3.0/video"}
    model = model_by_id(ids[output])
    assert model is not None and model.output == output
    return model


@pytest.mark.parametrize(("output", "start_s", "cap_s"), [("image", 3, 15), ("audio", 5, 20), ("video", 10, 30)])
def test_looks_begin_often_grow_by_half_and_stop_growing_at_a_cap(output: str, start_s: float, cap_s: float) -> None:
    model = of(output)
    assert [PACE.next_poll_s(model, polls) for polls in range(3)] == [start_s, start_s * 1.5, start_s * 2.25]
    assert PACE.next_poll_s(model, 10) == PACE.next_poll_s(model, 10**6) == cap_s


def test_the_first_look_comes_within_ten_seconds() -> None:
    assert 0 < PACE.first_poll_s(of("image")) <= 10
    assert PACE.first_poll_s(of("video")) == 10


@pytest.mark.parametrize(("output", "minutes"), [("image", 10), ("audio", 15), ("video", 45)])
def test_past_its_deadline_a_task_is_watched_slowly(output: str, minutes: float) -> None:
    model = of(output)
    assert not PACE.is_stalled(model, minutes * MINUTE_S)
    assert PACE.is_stalled(model, minutes * MINUTE_S + 1)
    assert PACE.stalled_poll_s() == 10 * MINUTE_S


def test_after_a_day_a_task_is_hopeless() -> None:
    assert not PACE.is_hopeless(DAY_S)
    assert PACE.is_hopeless(DAY_S + 1)


@pytest.mark.parametrize(
    ("missings", "since_s", "is_lost"), [(1, 10**6, False), (2, 10**6, False), (50, 90, False), (3, 91, True)]
)
def test_only_several_answers_over_a_minute_and_a_half_say_that_a_task_is_lost(
    missings: int, since_s: float, is_lost: bool
) -> None:
    assert PACE.is_lost(missings, since_s) is is_lost


def test_a_file_out_of_reach_is_looked_for_ever_more_slowly_for_a_day() -> None:
    age_s, waits_s = 0.0, list[float]()
    while not PACE.patience_is_over(age_s):
        waits_s.append(PACE.result_poll_s(age_s))
        age_s += waits_s[-1]
    assert waits_s == sorted(waits_s)
    assert (waits_s[0], waits_s[-1]) == (3, 10 * MINUTE_S)
    assert DAY_S < age_s < DAY_S + 11 * MINUTE_S
    assert len(waits_s) < 200


def test_a_file_that_is_no_media_is_doubted_for_a_quarter_of_an_hour_only() -> None:
    assert not PACE.patience_is_over(15 * MINUTE_S, is_doubtful=True)
    assert PACE.patience_is_over(15 * MINUTE_S + 1, is_doubtful=True)


def test_a_provider_without_room_is_asked_again_after_minutes() -> None:
    assert [PACE.busy_s(busies) / MINUTE_S for busies in range(6)] == [2, 4, 8, 16, 30, 30]


def test_one_scale_shortens_every_wait() -> None:
    quick, model = Pace(scale=0.01), of("video")
    assert quick.next_poll_s(model, 0) == pytest.approx(0.1)
    assert quick.busy_s(0) == pytest.approx(1.2)
    assert quick.result_poll_s(0.0) == pytest.approx(0.03)
    assert quick.is_stalled(model, 27.1) and quick.is_hopeless(865) and quick.is_lost(3, 0.91)
    assert quick.patience_is_over(865)
