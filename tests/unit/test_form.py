"""The form: prompt in, ready out; every button means something; nothing a user sends breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiebot.bot import form, form_texts
from kiebot.bot.form_screen import Screen, screen
from kiebot.bot.form_state import (
    MAX_ACTION_BYTES,
    Action,
    Event,
    FormState,
    MediaInput,
    Step,
    Verb,
    View,
    decode,
    encode,
    state_from_row,
)
from kiebot.bot.form_texts import RUSSIAN, Text, message_ids
from kiebot.generation import catalog
from kiebot.generation.checks import request_input, validate
from kiebot.generation.fields import FieldKind
from kiebot.generation.pricing import Quote
from kiebot.generation.product import Model

MODELS = catalog.models()
EACH_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
PHOTO = MediaInput("photo", "image", size_bytes=100_000, width=1000, height=800)
CLIP = MediaInput("clip", "video", size_bytes=900_000, mime="video/mp4", seconds=6)
VOICE = MediaInput("voice", "audio", size_bytes=40_000, mime="audio/ogg", seconds=8)
SENT = {"image": PHOTO, "video": CLIP, "audio": VOICE}
TEXTS = [
    "a red cat on a tram",
    "James: Hello\nBella: Hi",
    "5: a cat wakes\n4s the cat yawns",
    "@cat: red and fat",
    "7",
    "0,5",
    "",
    "ru",
]


def named(model_id: str) -> Model:
    model = catalog.model_by_id(model_id)
    assert model is not None
    return model


def filled(model: Model) -> FormState:
    """Answer what the form asks for, as a person would, until it asks for nothing more."""
    state = form.start(model)
    for _ in range(10):
        wanted = form.asked(model, state)
        if wanted is None:
            return state
        step = form.apply_media(model, state, SENT[wanted.media or ""]) if wanted.kind.is_media else say(model, state)
        assert step.problems == ()
        state = step.state
    raise AssertionError(f"{model.id} never stops asking")


def say(model: Model, state: FormState, text: str = "a red cat on a tram") -> Step:
    return form.apply_text(model, state, text)


def press(model: Model, state: FormState, verb: Verb, field: str = "", value: Any = None, number: int = 0) -> Step:
    key = model.field(field).key if field else ""
    choice = model.field(field).choice_of(value) if field else None
    chosen = choice.key if choice else {True: "on", False: "off"}.get(value, "") if isinstance(value, bool) else ""
    return form.apply(model, state, Action(verb, model.slug, key, chosen, number), content_filter=False)


def shown(model: Model, state: FormState, **settings: Any) -> Screen:
    return screen(model, state, "en", form.price_of(model, state, markup=2), **settings)


def buttons(page: Screen) -> list[Action]:
    return [button.action for row in page.rows for button in row]


def codes(step: Step) -> list[str]:
    return [problem.code for problem in step.problems]


@EACH_MODEL
def test_a_prompt_and_the_files_it_needs_make_a_model_ready_with_its_price_on_the_button(model: Model) -> None:
    state = filled(model)
    assert form.is_ready(model, state)
    assert isinstance(form.price_of(model, state, markup=2), Quote)
    verbs = [action.verb for action in buttons(shown(model, state))]
    assert verbs.count(Verb.CONFIRM) == 1
    assert form.apply(model, state, Action(Verb.CONFIRM, model.slug)).event is Event.CONFIRM


@EACH_MODEL
def test_an_unfinished_form_names_what_is_missing_and_cannot_be_confirmed(model: Model) -> None:
    state = form.start(model)
    page = shown(model, state)
    assert page.asks == form.missing(model, state)[0].name
    assert Verb.CONFIRM not in [action.verb for action in buttons(page)]
    step = form.apply(model, state, Action(Verb.CONFIRM, model.slug))
    assert step.event is Event.REDRAW
    assert set(codes(step)) == {"missing"}


def screens_of(model: Model, state: FormState, content_filter: bool) -> Iterator[tuple[FormState, Screen]]:
    """Every screen that can be reached by opening fields and turning pages."""
    seen, waiting = set(), [state]
    while waiting:
        here = waiting.pop()
        if (here.view, here.field, here.page) in seen:
            continue
        seen.add((here.view, here.field, here.page))
        page = screen(model, here, "ru", None, content_filter=content_filter)
        yield here, page
        opening = [a for a in buttons(page) if a.verb in (Verb.EDIT, Verb.MORE, Verb.HOME)]
        waiting += [form.apply(model, here, action, content_filter=content_filter).state for action in opening]


@EACH_MODEL
@pytest.mark.parametrize("content_filter", [True, False])
def test_every_button_on_every_screen_fits_decodes_and_does_something(model: Model, content_filter: bool) -> None:
    for state in (form.start(model), filled(model)):
        for here, page in screens_of(model, state, content_filter):
            assert page.rows
            for action in buttons(page):
                data = encode(action)
                assert len(data.encode()) <= MAX_ACTION_BYTES
                assert decode(data) == action
                step = form.apply(model, here, action, content_filter=content_filter)
                assert step.event is not Event.STALE, (here, action)
                current = step.state == here and step.event is Event.REDRAW
                assert not current or "✓" in label_of(page, action), (here, action)


def label_of(page: Screen, action: Action) -> str:
    return str(next(button.label for row in page.rows for button in row if button.action == action))


@EACH_MODEL
def test_no_screen_is_too_large_for_telegram_or_shows_a_filter_the_operator_has_on(model: Model) -> None:
    for here, page in screens_of(model, filled(model), content_filter=True):
        assert sum(len(row) for row in page.rows) <= 60
        assert all(len(row) <= 8 for row in page.rows)
        assert sum(len(said(part)) for part in page.parts) < 4000
        opened = {action.field for action in buttons(page)}
        assert not opened & {field.key for field in model.filter_fields}
        assert here.field not in {field.name for field in model.inputs if field.hidden}


def said(part: Text | str) -> str:
    return part if isinstance(part, str) else part.msgid.format(**part.params)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), model=st.sampled_from(MODELS), content_filter=st.booleans())
def test_whatever_a_user_does_the_form_is_ready_or_says_what_is_wrong(
    data: st.DataObject, model: Model, content_filter: bool
) -> None:
    state = form.start(model)
    for _ in range(data.draw(st.integers(1, 14))):
        page = screen(model, state, "en", form.price_of(model, state, markup=2), content_filter=content_filter)
        answer = data.draw(st.sampled_from(["press", "press", "text", "media"]))
        if answer == "press":
            step = form.apply(model, state, data.draw(st.sampled_from(buttons(page))), content_filter=content_filter)
        elif answer == "text":
            step = say(model, state, data.draw(st.sampled_from(TEXTS) | st.text(max_size=60)))
        else:
            step = form.apply_media(
                model, state, data.draw(st.sampled_from([*SENT.values(), MediaInput("d", "document")]))
            )
        assert step.event is not Event.STALE
        state = step.state
        assert state_from_row(state.to_row()) == state
        problems = validate(model, state.inputs, content_filter=content_filter)
        for problem in (*problems, *step.problems):
            spoken = said(form_texts.problem_text(model, problem, "ru"))
            assert spoken
            assert "{" not in spoken or "{" in str(problem.facts)
        assert problems or request_input(model, state.inputs, content_filter)


@given(data=st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: "f1:" + raw.decode("latin-1")))
def test_foreign_button_data_is_none_or_a_harmless_action(data: str) -> None:
    action = decode(data)
    if action is not None:
        assert decode(encode(action)) == action
        assert form.apply(MODELS[0], form.start(MODELS[0]), action).event in Event


def test_a_button_of_another_model_or_an_older_version_is_stale() -> None:
    model, other = MODELS[0], MODELS[1]
    state = form.start(model)
    assert form.apply(model, state, Action(Verb.CONFIRM, other.slug)).event is Event.STALE
    assert form.apply(model, state, Action(Verb.EDIT, model.slug, "zzzz")).event is Event.STALE
    assert form.apply(model, state, Action(Verb.REMOVE, model.slug, model.inputs[0].key, "", 3)).event is Event.STALE
    assert decode("f0:g:" + model.slug) is None
    assert state_from_row({"inputs": {}}) is None
    assert state_from_row({"model_slug": "x", "view": "moon"}) is None


def test_a_field_that_has_gone_from_the_model_does_not_break_an_old_draft() -> None:
    model = named("z-image")
    old = FormState("s6kbe", {"gone": 1, "prompt": "a cat"}, View.FIELD, "gone")
    assert buttons(shown(model, old))
    assert say(model, old, "a dog").state.inputs["prompt"] == "a dog"
    assert request_input(model, old.inputs)["prompt"] == "a cat"


def test_two_or_three_values_change_places_with_one_tap() -> None:
    model = named("nano-banana-2")
    state = filled(model)
    resolutions = []
    for _ in range(3):
        key = model.field("resolution").key
        turn = next(action for action in buttons(shown(model, state)) if action.field == key)
        state = form.apply(model, state, turn).state
        assert state.view is View.MAIN
        resolutions.append(state.inputs["resolution"])
    assert resolutions == ["2K", "4K", "1K"]


@pytest.mark.parametrize(
    ("price", "said"),
    [(1000, "✨ Create · 1 credit"), (1600, "✨ Create · 1.6 credits"), (2000, "✨ Create · 2 credits")],
)
def test_the_price_on_the_button_agrees_with_its_noun(price: int, said: str) -> None:
    model = named("z-image")
    drawn = screen(model, filled(model), "en", Quote(500, price, False, ()))
    labels = [each.label for row in drawn.rows for each in row if isinstance(each.label, Text)]
    assert said in [label.msgid.format_map(label.params) for label in labels if "credits" in label.params]


def test_a_choice_from_a_long_list_returns_to_the_form_and_changes_the_price() -> None:
    model = named("grok-imagine/text-to-video")
    opened = press(model, filled(model), Verb.EDIT, "duration").state
    assert len([action for action in buttons(shown(model, opened)) if action.verb is Verb.SET]) == 24
    chosen = press(model, opened, Verb.SET, "duration", 30).state
    assert chosen.view is View.MAIN
    price = form.price_of(model, chosen, markup=2)
    assert isinstance(price, Quote)
    assert price.price_millicredits == 144_000


def test_a_caption_counts_as_the_prompt() -> None:
    model = named("google/nano-banana-edit")
    step = form.apply_media(model, form.start(model), PHOTO, "make it snow")
    assert step.state.inputs["prompt"] == "make it snow"
    assert step.state.inputs["image_urls"] == [PHOTO.reference()]
    assert form.is_ready(model, step.state)


def test_files_fill_required_places_first_then_others_and_lists_grow_to_their_limit() -> None:
    model = named("kling/v2-5-turbo-image-to-video-pro")
    state = form.apply_media(model, form.apply_media(model, form.start(model), PHOTO).state, PHOTO).state
    assert set(state.inputs) == {"image_url", "tail_image_url"}
    assert codes(form.apply_media(model, state, PHOTO)) == ["too_many"]
    many = named("grok-imagine/image-to-image")
    state = form.start(many)
    for _ in range(5):
        state = form.apply_media(many, state, PHOTO).state
    step = form.apply_media(many, state, PHOTO)
    assert [(problem.code, problem.limit) for problem in step.problems] == [("too_many", 5)]
    assert step.state == state


def test_the_only_place_for_a_picture_takes_the_new_one() -> None:
    model = named("recraft/remove-background")
    state = filled(model)
    again = form.apply_media(model, state, MediaInput("other", "image")).state
    assert again.inputs["image"]["file_id"] == "other"


def test_another_model_takes_over_the_prompt_the_files_and_equal_choices() -> None:
    old, new = named("google/nano-banana-edit"), named("gpt-image-2-image-to-image")
    state = press(old, filled(old), Verb.SET, "aspect_ratio", "16:9").state
    taken = form.start(new, like=old, inputs=state.inputs)
    assert taken.inputs == {
        "prompt": "a red cat on a tram",
        "aspect_ratio": "16:9",
        "input_urls": [PHOTO.reference()],
    }
    speech = form.start(named("elevenlabs/text-to-speech-turbo-2-5"), like=old, inputs=state.inputs)
    assert speech.inputs == {"text": "a red cat on a tram"}


def test_a_tool_takes_no_text_and_says_so() -> None:
    model = named("recraft/remove-background")
    assert codes(say(model, form.start(model))) == ["no_text"]
    assert model.prompt_field is None


def test_every_sentence_has_a_russian_wording_with_the_same_places() -> None:
    assert set(RUSSIAN) == message_ids()
    for english, russian in RUSSIAN.items():
        assert places(english) >= places(russian), english


def places(text: str) -> set[str]:
    return {part.split("}")[0] for part in text.split("{")[1:]}


def test_every_kind_of_field_is_asked_for_in_words() -> None:
    for model in MODELS:
        for field in model.inputs:
            assert said(form_texts.ask_text(field, "ru"))
            assert field.kind in FieldKind
