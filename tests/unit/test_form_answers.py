"""What a person types or sends becomes a value, or a problem told at once with its limit."""

from __future__ import annotations

from typing import Any

import pytest

from kiebot.bot import form
from kiebot.bot.form_screen import screen
from kiebot.bot.form_state import Action, FormState, MediaInput, Step, Verb
from kiebot.bot.form_texts import Text
from kiebot.generation import catalog
from kiebot.generation.product import Model

PHOTO = MediaInput("photo", "image", size_bytes=100_000, width=1000, height=800)
CLIP = MediaInput("clip", "video", size_bytes=900_000, mime="video/mp4", seconds=6)


def named(model_id: str) -> Model:
    model = catalog.model_by_id(model_id)
    assert model is not None
    return model


def say(model: Model, state: FormState, text: str = "a red cat on a tram") -> Step:
    return form.apply_text(model, state, text)


def press(model: Model, state: FormState, verb: Verb, field: str = "", value: Any = None, number: int = 0) -> Step:
    key = model.field(field).key if field else ""
    choice = model.field(field).choice_of(value) if field else None
    chosen = choice.key if choice else {True: "on", False: "off"}.get(value, "") if isinstance(value, bool) else ""
    return form.apply(model, state, Action(verb, model.slug, key, chosen, number), content_filter=False)


def codes(step: Step) -> list[str]:
    return [problem.code for problem in step.problems]


def said(part: Text | str) -> str:
    return part if isinstance(part, str) else part.msgid.format(**part.params)


@pytest.mark.parametrize(
    ("model_id", "media", "code", "limit"),
    [
        ("recraft/remove-background", MediaInput("x", "image", size_bytes=5_000_001), "too_large", 5_000_000),
        ("kling/ai-avatar-pro", MediaInput("x", "audio", size_bytes=20_000_001, seconds=9), "too_large", 20_000_000),
        ("recraft/remove-background", CLIP, "wrong_media", None),
        ("recraft/remove-background", MediaInput("x", "image", mime="image/heic"), "wrong_media", None),
        ("z-image", PHOTO, "no_media", None),
        ("topaz/video-upscale", MediaInput("x", "video", size_bytes=9), "unmeasurable", None),
        ("qwen/image-to-image", MediaInput("x", "image"), "unmeasurable", None),
        ("infinitalk/from-audio", MediaInput("x", "audio", seconds=16), "seconds_each", 15),
    ],
)
def test_a_file_that_does_not_fit_is_refused_at_once_with_the_limit(
    model_id: str, media: MediaInput, code: str, limit: int | None
) -> None:
    step = form.apply_media(named(model_id), form.start(named(model_id)), media)
    assert [(problem.code, problem.limit) for problem in step.problems] == [(code, limit)]
    assert step.state.inputs == {}


def test_a_text_too_long_is_refused_with_the_limit_and_the_old_one_kept() -> None:
    model = named("z-image")
    step = say(model, say(model, form.start(model)).state, "x" * 1001)
    assert [(problem.code, problem.limit) for problem in step.problems] == [("too_long", 1000)]
    assert step.state.inputs["prompt"] == "a red cat on a tram"
    assert "1000" in said(screen(model, step.state, "en", problems=step.problems).parts[0])


def test_a_dialogue_is_typed_as_lines_and_a_stranger_is_named() -> None:
    model = named("elevenlabs/text-to-dialogue-v3")
    state = say(model, form.start(model), "James: Hello\nAnd more\nmark 2: Hi: there").state
    voices = model.field("dialogue")
    names = [voices.choice_of(line["voice"]) for line in state.inputs["dialogue"]]
    assert [choice.label for choice in names if choice] == ["James", "James", "Mark 2"]
    assert [line["text"] for line in state.inputs["dialogue"]] == ["Hello", "And more", "Hi: there"]
    assert codes(say(model, state, "Zorro: Hi")) == ["unknown_voice"]
    assert len(press(model, state, Verb.REMOVE, "dialogue", number=1).state.inputs["dialogue"]) == 2


def test_shots_bring_sound_several_shots_and_the_clips_length_with_them() -> None:
    model = named("kling-3.0/video")
    several = press(model, say(model, form.start(model)).state, Verb.SET, "multi_shots", True).state
    assert several.inputs["sound"] is True
    assert [field.name for field in form.missing(model, several)] == ["multi_prompt"]
    state = say(model, several, "5: a cat wakes\n4 s: the cat yawns").state
    assert state.inputs["duration"] == "9"
    assert form.is_ready(model, state)
    assert codes(say(model, press(model, state, Verb.EDIT, "multi_prompt").state, "no seconds")) == ["bad_shot"]


def test_subjects_are_named_in_words_and_shown_in_pictures() -> None:
    model = named("kling-3.0/video")
    state = press(model, say(model, form.start(model)).state, Verb.EDIT, "kling_elements").state
    assert codes(form.apply_media(model, state, PHOTO)) == ["bad_subject"]
    state = form.apply_media(model, state, PHOTO, "@cat: red and fat").state
    assert not form.is_ready(model, state)
    state = form.apply_media(model, state, PHOTO).state
    assert form.is_ready(model, state)
    assert len(state.inputs["kling_elements"][0]["element_input_urls"]) == 2


def test_numbers_are_read_in_both_spellings_and_kept_in_range() -> None:
    model = named("wan/2-2-a14b-speech-to-video-turbo")
    state = press(model, form.start(model), Verb.EDIT, "shift").state
    assert say(model, state, "2,5").state.inputs["shift"] == 2.5
    assert codes(say(model, state, "11")) == ["out_of_range"]
    assert codes(say(model, state, "nan")) == ["wrong_type"]
    frames = press(model, form.start(model), Verb.EDIT, "num_frames").state
    assert codes(say(model, frames, "81")) == ["not_a_step"]
    assert codes(say(model, frames, "8.0")) == ["wrong_type"]


def test_a_long_choice_can_be_typed_in_either_language() -> None:
    model = named("elevenlabs/text-to-dialogue-v3")
    state = press(model, form.start(model), Verb.EDIT, "language_code").state
    assert say(model, state, "русский").state.inputs["language_code"] == "ru"
    assert say(model, state, "Klingon").problems[0].code == "not_allowed"
