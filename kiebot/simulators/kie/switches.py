"""What can be turned on and off while the simulator runs, for all models or for one."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

import msgspec

Profile = Literal["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"]
"""How a task proceeds: A waiting to success, B generating to success, C waiting, queuing, generating, D an unknown word
in between, E never ends, F moderated within seconds, G times out after ten minutes, H success with no result, I success
with several URLs, J failure that the query reports as envelope code 501."""

LoseVariant = Literal["a", "b", "c", "d", "d0", "e"]
"""How the answer to a create is lost: a created, connection broken; b created, answered late; c not created, connection
broken; d created, 502 page; d0 not created, 502 page; e created, JSON cut short."""

ResultMode = Literal[
    "normal",
    "dead",
    "late",
    "private",
    "truncated",
    "slow",
    "endless",
    "oversized",
    "wrong_type",
    "zero",
    "html",
    "reset",
]
"""How a result file is served. dead: 404 for ever; late: 404 for the first seconds; private: 403, except under a signed
link; endless: no end, no length."""

CallbackMode = Literal[
    "missing",
    "duplicate",
    "late",
    "early",
    "out_of_order",
    "unknown_task",
    "forged",
    "replayed",
    "wrong_signature",
    "hex_signature",
    "stale",
    "unsigned",
]

NoiseKind = Literal["reset", "html_502", "html_503", "html_504", "not_json", "slow_headers"]


@dataclass(slots=True)
class ModelSwitches:
    """Switches that may differ from model to model. Rates are probabilities from 0 to 1."""

    profile: Profile | None = None
    duration_scale: float = 1.0
    duration_s: float | None = None
    failure_rate: float = 0.0
    moderation_rate: float = 0.0
    failure: str | None = None
    paused: bool = False
    maintenance: bool = False
    accepts_empty_input: bool = False
    gap_s: tuple[float, float] = (0.0, 5.0)
    gap_form: Literal["record_is_null", "null_data"] = "record_is_null"
    urls: int | None = None
    empty_form: Literal["", "{}", '{"resultUrls":[]}'] = '{"resultUrls":[]}'
    fail_code_as: Literal["string", "int", "word"] = "string"
    result_mode: ResultMode = "normal"
    callback_modes: tuple[CallbackMode, ...] = ()
    refunds: bool = True
    transient_rate: float = 0.0
    lose_rate: float = 0.0
    lose_variants: tuple[LoseVariant, ...] = ("a", "c", "d", "d0", "e")


@dataclass(slots=True)
class Switches(ModelSwitches):
    """All switches. Set an attribute for every model, `set_model` for one.

    `duration_scale` also scales the visibility gap and the pauses between callback retries; `latency_scale` 1.0 gives
    the measured answer times, 0 (default) answers at once, because a manual clock would hold every answer back.
    """

    http_status: Literal["ok", "mirror"] = "ok"
    text_key: Literal["msg", "message"] = "msg"
    record_fields: Literal["april", "newest", "docs"] = "newest"
    extra_fields: bool = False
    latency_scale: float = 0.0
    gzip: bool = False

    rate_limits: bool = True
    create_window: Literal["sliding", "fixed"] = "sliding"
    creates_per_10s: int = 20
    polls_per_task_per_s: int = 10
    polls_per_s: int | None = None
    retry_after_s: float | None = None

    key_cap_credits: float | None = None
    credit_lag_s: float = 0.0
    rounds_units_up: bool = False

    strict_inputs: bool = True
    dead_input: Literal["451", "500", "later"] = "451"

    upload_ttl_s: float = 86_400.0
    result_ttl_s: float = 14 * 86_400.0
    link_ttl_s: float = 1_200.0
    max_stream_bytes: int = 200_000_000
    max_base64_bytes: int = 10_000_000
    max_url_bytes: int = 100_000_000
    blocks_urllib: bool = True
    late_file_s: float = 3.0
    slow_bytes_per_s: float = 1_000.0
    oversized_bytes: int = 4_000_000_000
    endless_cap_bytes: int = 1_000_000_000

    webhook_key: str | None = None
    callback_timeout_s: float = 15.0
    callback_retries_s: tuple[float, ...] = (5.0, 30.0, 120.0)
    callback_late_s: float = 30.0
    callback_early_s: float = 10.0
    callback_credits: Literal["creditsConsumed", "consumeCredits"] = "creditsConsumed"
    callback_shape: Literal["market", "veo", "suno"] = "market"

    late_answer_s: float = 120.0
    slow_headers_s: float = 30.0
    noise_rate: float = 0.0
    noise_kinds: tuple[NoiseKind, ...] = ("reset", "html_502", "html_503", "html_504", "not_json")

    _models: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"grok-imagine/image-to-video": {"accepts_empty_input": True}}
    )

    def of(self, model_id: str) -> ModelSwitches:
        """The switches as they stand for one model."""
        own = self._models.get(model_id)
        if own is None:
            return self
        common = {each.name: getattr(self, each.name) for each in fields(ModelSwitches)}
        return ModelSwitches(**{**common, **own})

    def set_model(self, model_id: str, **values: Any) -> None:
        """Override switches for one model. Raises: ValueError, for an unknown name or an impossible value."""
        checked = {name: _converted(ModelSwitches, name, value) for name, value in values.items()}
        self._models.setdefault(model_id, {}).update(checked)

    def set(self, **values: Any) -> None:
        """Set switches by name, with their values checked. Raises: ValueError, as `set_model` does."""
        checked = {name: _converted(Switches, name, value) for name, value in values.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Every switch by name, without the webhook key; overrides under `models`."""
        hidden = {"_models", "webhook_key"}
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in hidden}
        return {**values, "models": self._models}


def _converted(owner: type[ModelSwitches], name: str, value: Any) -> Any:
    hints = get_type_hints(owner)
    if name not in hints or name.startswith("_"):
        raise ValueError(f"no such switch: {name}")
    try:
        return msgspec.convert(value, hints[name])
    except msgspec.ValidationError as error:
        raise ValueError(f"{name}: {error}") from error
