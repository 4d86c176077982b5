"""The catalogue: every live model is complete, fillable, and says in data what keeps an input from being sent."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kiebot.generation import catalog
from kiebot.generation.checks import Problem, media_refs, request_input, validate, with_urls
from kiebot.generation.fields import FieldKind, InputField
from kiebot.generation.product import Model, is_active

MODELS = catalog.models()
EACH_MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
PHOTO = {"file_id": "P", "kind": "image", "width": 1000, "height": 800, "size": 90_000}
CLIP = {"file_id": "V", "kind": "video", "seconds": 6, "size": 900_000}
VOICE = {"file_id": "A", "kind": "audio", "seconds": 8, "size": 90_000}
REFS: dict[str, dict[str, Any]] = {"image": PHOTO, "video": CLIP, "audio": VOICE}


def named(model_id: str) -> Model:
    model = catalog.model_by_id(model_id)
    assert model is not None
    return model


def sample(field: InputField) -> Any:
    """A plain valid answer to a field."""
    match field.kind:
        case FieldKind.MEDIA:
            return REFS[field.media or ""]
        case FieldKind.MEDIA_LIST:
            return [REFS[field.media or ""]]
        case FieldKind.DIALOGUE:
            return [{"text": "Hello there", "voice": field.choices[0].value}]
    return "a red cat on a tram"


def least(model: Model) -> dict[str, Any]:
    """Only what must be given."""
    wanted = [problem.fields[0] for problem in validate(model, {}) if problem.code == "missing"]
    return {name: sample(model.field(name)) for name in wanted}


def codes(model: Model, inputs: dict[str, Any], **settings: Any) -> list[str]:
    return [problem.code for problem in validate(model, inputs, **settings)]


def test_exactly_the_live_models_are_offered_each_on_one_shelf() -> None:
    facts = json.loads(resources.files("kiebot.generation").joinpath("models.json").read_bytes())
    live = {fact["id"] for fact in facts if fact["status"] == "live"}
    assert {model.id for model in MODELS} == live
    assert len(MODELS) == len(live) == 88
    assert all(catalog.models_of(kind.id) for kind in catalog.kinds())
    assert catalog.models_of("no such shelf") == ()


def test_short_names_are_short_unique_and_lead_back_to_their_model() -> None:
    assert len({model.slug for model in MODELS}) == len(MODELS)
    assert all(re.fullmatch("[a-z2-7]{5}", model.slug) for model in MODELS)
    assert all(catalog.model_by_slug(model.slug) is model for model in MODELS)
    assert catalog.model_by_slug("zzzzz") is None
    assert catalog.model_by_id("sora-2-text-to-video") is None


def test_every_correction_names_a_live_model_its_fields_and_a_reason() -> None:
    overrides = json.loads(resources.files("kiebot.generation").joinpath("catalog_overrides.json").read_bytes())
    for model_id, overlay in overrides["models"].items():
        model = named(model_id)
        assert overlay["reason"]
        fields = {name for rule in overlay.get("rules", ()) for name in rule["fields"]}
        conditions = [rule.get("when", {}) for rule in overlay.get("rules", ())]
        fields |= {name for when in conditions for name in when if not name.startswith("_")}
        fields |= {*overlay.get("inputs", ()), *overlay.get("active_when", ()), *overlay.get("choice_labels", ())}
        assert fields <= set(model.schema["properties"]), model_id
    for shelf in overrides["kinds"]:
        assert {*shelf["first"]} <= {model.id for model in catalog.models_of(shelf["id"])}


@EACH_MODEL
def test_every_schema_is_sound_and_every_default_is_allowed_by_it(model: Model) -> None:
    Draft202012Validator.check_schema(model.schema)
    for name, schema in model.schema["properties"].items():
        if "default" in schema:
            Draft202012Validator(schema).validate(schema["default"])
        assert model.field(name).name == name


@EACH_MODEL
def test_keys_of_fields_and_choices_are_unique_and_titles_exist_in_both_languages(model: Model) -> None:
    assert len({field.key for field in model.inputs}) == len(model.inputs)
    for field in model.inputs:
        assert len({choice.key for choice in field.choices}) == len(field.choices)
        assert len({choice.label for choice in field.choices}) == len(field.choices), field.name
        assert re.search("[а-яё]", field.title_ru, re.IGNORECASE) or "Suno" in field.title_ru, field.title
        assert field.kind not in (FieldKind.MEDIA, FieldKind.MEDIA_LIST) or field.media in REFS
    assert re.search("[а-яё]", model.summary_ru)
    assert 5 <= model.expected_seconds <= 900


@EACH_MODEL
def test_what_must_be_given_and_the_defaults_are_enough(model: Model) -> None:
    inputs = least(model)
    assert validate(model, inputs) == []
    assert {model.field(name).kind for name in inputs} <= {
        *(FieldKind.PROMPT, FieldKind.DIALOGUE, FieldKind.MEDIA, FieldKind.MEDIA_LIST)
    }
    sent = with_urls(model, request_input(model, inputs), {ref["file_id"]: "https://x.test/f" for ref in REFS.values()})
    Draft202012Validator(model.schema).validate(sent)


@EACH_MODEL
def test_every_choice_of_every_field_is_either_accepted_or_named_in_a_problem(model: Model) -> None:
    for field in model.inputs:
        for choice in field.choices if field.kind is FieldKind.CHOICE else ():
            inputs = {**least(model), field.name: choice.value}
            for problem in validate(model, inputs, content_filter=False):
                assert problem.code == "missing" or field.name in problem.fields, (field.name, choice.value, problem)


@EACH_MODEL
def test_the_operators_content_filter_is_sent_whatever_a_draft_says(model: Model) -> None:
    loose: dict[str, Any] = {"nsfw_checker": False, "enable_safety_checker": False, "safety_tolerance": 6}
    inputs = {**least(model), **{name: loose[name] for name in loose if name in model.schema["properties"]}}
    sent = request_input(model, inputs)
    for field in model.filter_fields:
        assert sent[field.name] == {"safety_tolerance": 2}.get(field.name, True)
    assert {field.name for field in model.filter_fields} == {name for name in loose if name in inputs}
    assert (
        request_input(model, inputs, content_filter=False).items()
        >= {k: inputs[k] for k in loose if k in inputs}.items()
    )


def test_a_duration_is_sent_in_the_type_the_model_wants() -> None:
    assert request_input(named("kling-2.6/text-to-video"), {"prompt": "x"})["duration"] == "5"
    assert request_input(named("bytedance/seedance-2"), {"prompt": "x"})["duration"] == 5
    assert codes(named("bytedance/seedance-2"), {"prompt": "a cat", "duration": "5"}) == ["wrong_type"]


def test_unknown_keys_are_never_sent_and_untouched_advanced_fields_stay_out() -> None:
    sent = request_input(named("qwen/text-to-image"), {"prompt": "x", "strange": 1})
    assert "strange" not in sent
    assert "num_inference_steps" not in sent
    assert sent["image_size"] == "square_hd"


@pytest.mark.parametrize(
    ("model_id", "inputs", "problem"),
    [
        ("hailuo/2-3-image-to-video-pro", {"resolution": "1080P", "duration": "10"}, "combination"),
        ("runway", {"quality": "1080p", "duration": 10}, "combination"),
        ("gpt-image-2-text-to-image", {"resolution": "2K"}, "combination"),
        ("gpt-image-2-text-to-image", {"aspect_ratio": "1:1", "resolution": "4K"}, "combination"),
        ("bytedance/seedance-2", {"first_frame_url": PHOTO, "reference_audio_urls": [VOICE]}, "excludes"),
        ("wan/3-0-video", {"last_frame_url": PHOTO}, "needs"),
        ("wan/3-0-video", {"reference_video_urls": [CLIP, CLIP, CLIP]}, "seconds_total"),
        ("wan/3-0-video", {"reference_video_urls": [CLIP], "duration": 30}, "seconds_total"),
        (
            "kling-2.6/motion-control",
            {"character_orientation": "image", "video_urls": [CLIP | {"seconds": 11}]},
            "seconds_each",
        ),
        ("infinitalk/from-audio", {"audio_url": VOICE | {"seconds": 15.2}}, "seconds_each"),
        ("veo-3-1", {"model": "veo3", "image_urls": [PHOTO] * 3}, "combination"),
        ("wan/2-2-a14b-speech-to-video-turbo", {"num_frames": 81}, "not_a_step"),
        ("z-image", {"prompt": "x" * 1001}, "too_long"),
        ("flux-2/pro-text-to-image", {"prompt": "ab"}, "too_short"),
        ("google/nano-banana-edit", {"image_urls": [PHOTO] * 11}, "too_many"),
        ("grok-imagine/image-to-video", {"mode": "spicy"}, "not_allowed"),
        (
            "kling-3.0/video",
            {"multi_shots": True, "sound": False, "multi_prompt": [{"prompt": "a", "duration": 5}]},
            "combination",
        ),
        (
            "kling-3.0/video",
            {"multi_shots": True, "sound": True, "multi_prompt": [{"prompt": "a", "duration": 4}]},
            "shots_total",
        ),
        (
            "kling-3.0/video",
            {"kling_elements": [{"name": "a", "description": "b", "element_input_urls": [PHOTO]}]},
            "too_few",
        ),
        ("flux1-kontext", {"input_image": PHOTO, "safety_tolerance": 6}, "combination"),
    ],
)
def test_a_limit_across_fields_is_one_named_problem(model_id: str, inputs: dict[str, Any], problem: str) -> None:
    model = named(model_id)
    found = validate(model, {**least(model), **inputs}, content_filter=False)
    assert [each.code for each in found] == [problem]
    assert found[0].fields


def test_custom_mode_of_suno_needs_style_and_title_and_words_unless_instrumental() -> None:
    suno = named("ai-music-api/generate")
    assert validate(suno, {"custom_mode": True}) == [Problem("missing", (n,)) for n in ("style", "title", "lyrics")]
    own = {"custom_mode": True, "instrumental": True, "style": "jazz", "title": "Tram", "prompt": "left over"}
    assert validate(suno, own) == []
    assert "prompt" not in request_input(suno, own)
    assert "style" not in request_input(suno, {"prompt": "a song", "style": "jazz"})
    assert not is_active(suno, suno.field("lyrics"), own)


def test_an_explicit_choice_is_refused_while_the_filter_is_on() -> None:
    grok = named("grok-imagine/text-to-video")
    assert codes(grok, {"prompt": "x", "mode": "spicy"}) == ["not_allowed"]
    assert codes(grok, {"prompt": "x", "mode": "spicy"}, content_filter=False) == []


def test_files_are_found_wherever_they_sit_and_replaced_by_their_addresses() -> None:
    kling = named("kling-3.0/video")
    subject = {"name": "cat", "description": "red", "element_input_urls": [PHOTO, PHOTO | {"file_id": "Q"}]}
    inputs = {"prompt": "x", "image_urls": [PHOTO], "kling_elements": [subject]}
    assert [ref["file_id"] for ref in media_refs(kling, inputs)] == ["P", "Q"]
    sent = request_input(kling, with_urls(kling, inputs, {"P": "https://x.test/p", "Q": "https://x.test/q"}))
    assert sent["image_urls"] == ["https://x.test/p"]
    assert sent["kling_elements"][0]["element_input_urls"] == ["https://x.test/p", "https://x.test/q"]
    with pytest.raises(KeyError):
        with_urls(kling, inputs, {"P": "https://x.test/p"})
