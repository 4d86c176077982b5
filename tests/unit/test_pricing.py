"""Prices: exact, rounded once, no fallback; a maximum where only the provider knows the end."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiebot.errors import Refused
from kiebot.generation import catalog
from kiebot.generation.checks import validate
from kiebot.generation.fields import FieldKind
from kiebot.generation.media import Measures
from kiebot.generation.pricing import (
    Line,
    NotPriceable,
    Quote,
    credits_text,
    marked_up,
    price_from,
    quote,
    settle,
)
from kiebot.generation.product import Model

EACH_MODEL = pytest.mark.parametrize("model", catalog.models(), ids=lambda model: model.id)
PHOTO = {"file_id": "P", "kind": "image", "width": 1000, "height": 800}
REFS = {"image": PHOTO, "video": {"file_id": "V", "seconds": 6}, "audio": {"file_id": "A", "seconds": 8}}


def cost(model_id: str, **inputs: Any) -> int:
    return priced(model_id, **inputs).cost_millicredits


def priced(model_id: str, **inputs: Any) -> Quote:
    model = catalog.model_by_id(model_id)
    assert model is not None
    return quote(model, inputs, markup=2)


def clip(seconds: float | None) -> dict[str, Any]:
    return {"file_id": "V", "kind": "video", "seconds": seconds}


@pytest.mark.parametrize(
    ("model_id", "inputs", "millicredits"),
    [
        ("z-image", {}, 800),
        ("nano-banana-2", {"resolution": "4K"}, 18_000),
        ("grok-imagine/text-to-video", {"duration": 7}, 16_800),
        ("grok-imagine/image-to-video", {"duration": "30", "resolution": "1080p"}, 240_000),
        ("kling-2.6/text-to-video", {"sound": True, "duration": "10"}, 220_000),
        ("kling-3.0/video", {"mode": "std", "sound": True, "duration": "15"}, 300_000),
        ("bytedance/seedance-1.5-pro", {"resolution": "480p"}, 14_000),
        ("bytedance/seedance-2", {"resolution": "480p"}, 95_000),
        ("bytedance/seedance-2", {"reference_video_urls": [clip(6), clip(2.1)], "duration": 4}, 25_000 * 13),
        ("wan/3-0-video", {"reference_video_urls": [clip(5)], "resolution": "480P"}, 8_000 * 10),
        ("wan/2-2-animate-move", {"video_url": clip(9.01), "resolution": "580p"}, 95_000),
        ("wan/2-2-a14b-speech-to-video-turbo", {}, 60_000),
        ("elevenlabs/audio-isolation", {"audio_url": clip(61)}, 12_200),
        ("elevenlabs/text-to-speech-turbo-2-5", {"text": "x" * 1001}, 12_000),
        ("elevenlabs/text-to-dialogue-v3", {"dialogue": [{"text": "x" * 600}, {"text": "y" * 400}]}, 14_000),
        ("seedream/5-pro-image-to-image", {"image_urls": [PHOTO]}, 7_000),
        ("seedream/5-pro-image-to-image", {"image_urls": [PHOTO] * 4, "quality": "high"}, 15_500),
        ("ideogram/character", {"num_images": "3", "rendering_speed": "TURBO"}, 36_000),
        ("qwen/text-to-image", {}, 4_000),
        ("qwen/image-edit", {"num_images": "4"}, 20_000),
        ("qwen/image-to-image", {"image_url": PHOTO | {"width": 2000, "height": 1500}}, 12_000),
        ("topaz/image-upscale", {"image_url": PHOTO}, 10_000),
        ("topaz/image-upscale", {"image_url": PHOTO, "upscale_factor": "4"}, 20_000),
        ("topaz/image-upscale", {"image_url": {"file_id": "?"}}, 40_000),
        ("runway", {"quality": "1080p"}, 30_000),
        ("veo-3-1", {"model": "veo3", "resolution": "4k"}, 370_000),
    ],
)
def test_a_run_costs_what_the_price_list_says(model_id: str, inputs: dict[str, Any], millicredits: int) -> None:
    assert cost(model_id, **inputs) == millicredits


def test_an_unknown_combination_is_not_sellable() -> None:
    unsold: dict[str, dict[str, Any]] = {
        "hailuo/2-3-image-to-video-standard": {"resolution": "1080P", "duration": "10"},
        "runway": {"quality": "1080p", "duration": 10},
        "nano-banana-2": {"resolution": "8K"},
        "qwen/text-to-image": {"image_size": "poster"},
    }
    for model_id, inputs in unsold.items():
        with pytest.raises(NotPriceable) as refused:
            cost(model_id, **inputs)
        assert refused.value.code == "not_sellable"
    assert issubclass(NotPriceable, Refused)


def test_a_length_that_is_needed_and_unknown_is_named() -> None:
    with pytest.raises(NotPriceable) as unknown:
        cost("topaz/video-upscale", video_url=clip(None))
    assert (unknown.value.code, unknown.value.facts) == ("unmeasurable", {"field": "video_url"})
    with pytest.raises(NotPriceable) as absent:
        cost("topaz/video-upscale")
    assert absent.value.code == "missing"
    with pytest.raises(NotPriceable) as second:
        cost("bytedance/seedance-2", reference_video_urls=[clip(3), clip(None)])
    assert second.value.code == "unmeasurable"


def test_a_result_beyond_the_largest_class_is_refused_with_the_limit() -> None:
    with pytest.raises(NotPriceable) as refused:
        cost("topaz/image-upscale", image_url=PHOTO | {"width": 4000}, upscale_factor="4")
    assert (refused.value.code, refused.value.facts["limit"]) == ("result_too_large", 8192)


def test_measures_given_apart_count_for_uploaded_files() -> None:
    model = catalog.model_by_id("infinitalk/from-audio")
    assert model is not None
    found = quote(model, {"audio_url": "https://x.test/a"}, {"audio_url": [Measures(7.2)]}, markup=1)
    assert found.breakdown == (Line("second", 8, 3_000),)
    assert found.is_maximum


@pytest.mark.parametrize(
    ("model_id", "inputs", "is_maximum"),
    [
        ("z-image", {}, False),
        ("grok-imagine/text-to-video", {"duration": 7}, False),
        ("bytedance/seedream-v4-edit", {"max_images": 1}, False),
        ("bytedance/seedream-v4-edit", {"max_images": 6}, True),
        ("topaz/image-upscale", {"image_url": PHOTO}, True),
        ("topaz/video-upscale", {"video_url": clip(3)}, True),
        ("wan/2-2-a14b-speech-to-video-turbo", {"num_frames": 84}, True),
        ("elevenlabs/text-to-speech-turbo-2-5", {"text": "hello"}, True),
        ("elevenlabs/text-to-speech-turbo-2-5", {"text": "x" * 1000}, False),
    ],
)
def test_only_what_the_provider_may_find_smaller_is_a_maximum(
    model_id: str, inputs: dict[str, Any], is_maximum: bool
) -> None:
    assert priced(model_id, **inputs).is_maximum is is_maximum


def test_the_price_is_the_cost_times_the_markup_rounded_up_to_ten_once() -> None:
    assert marked_up(800, 2) == 1_600
    assert marked_up(333, Decimal("1.1")) == 370
    assert marked_up(330, Decimal("1.0")) == 330
    assert marked_up(331, Decimal("1.0")) == 340
    assert marked_up(0, 2) == 0


def test_a_maximum_is_settled_by_the_providers_figure_and_never_above_the_hold() -> None:
    held = priced("topaz/image-upscale", image_url={"file_id": "?"})
    assert held.price_millicredits == 80_000
    assert settle(held, 10_000) == 20_000
    assert settle(held, 90_000) == 80_000
    assert settle(held, None) == 80_000
    fixed = priced("z-image")
    assert settle(fixed, 100) == fixed.price_millicredits


@given(
    rate=st.integers(1, 10**7),
    markup=st.decimals("1", "10", places=3),
    consumed=st.integers(-10, 2 * 10**7),
)
def test_a_capture_is_within_the_hold_whole_tens_and_at_least_the_markup(
    rate: int, markup: Decimal, consumed: int
) -> None:
    held = Quote(rate, marked_up(rate, markup), True, ())
    captured = settle(held, consumed)
    assert 0 <= captured <= held.price_millicredits
    assert captured % 10 == 0
    earned = int(max(consumed, 0) * markup)
    assert consumed > rate or captured >= min(earned, held.price_millicredits)


@EACH_MODEL
def test_every_sellable_choice_has_a_price_and_every_other_is_named_invalid(model: Model) -> None:
    given_inputs = _least(model)
    names = sorted({name for rule in model.price.rules for name in rule.when if not name.startswith("_")})
    options = [[None] if name not in model.schema["properties"] else _values(model, name) for name in names]
    for values in product(*options):
        inputs = given_inputs | dict(zip(names, values, strict=True))
        try:
            found = quote(model, inputs, markup=2)
        except NotPriceable:
            assert validate(model, inputs), inputs
            continue
        assert found.cost_millicredits > 0
        assert found.price_millicredits == 2 * found.cost_millicredits


@EACH_MODEL
def test_the_menu_price_is_never_above_a_real_one(model: Model) -> None:
    lowest = price_from(model, 2)
    assert lowest.unit in ("run", "second", "1000_chars")
    assert 0 < lowest.price_millicredits <= quote(model, _least(model), markup=2).price_millicredits


@pytest.mark.parametrize(
    ("millicredits", "text"),
    [(4000, "4"), (800, "0.8"), (12_500, "12.5"), (0, "0"), (10, "0.01"), (1_234_560, "1234.56"), (-3_500, "-3.5")],
)
def test_credits_read_as_people_write_them(millicredits: int, text: str) -> None:
    assert credits_text(millicredits) == text


def _least(model: Model) -> dict[str, Any]:
    wanted = [model.field(p.fields[0]) for p in validate(model, {}) if p.code == "missing"]
    found: dict[str, Any] = {}
    for field in wanted:
        if field.kind.is_media:
            ref = REFS[field.media or ""]
            found[field.name] = ref if field.kind is FieldKind.MEDIA else [ref]
        else:
            line = {"text": "Hello", "voice": field.choices[0].value} if field.choices else None
            found[field.name] = [line] if line else "a red cat"
    return found


def _values(model: Model, name: str) -> list[Any]:
    field = model.field(name)
    return [False, True] if field.kind is FieldKind.FLAG else [choice.value for choice in field.choices]
