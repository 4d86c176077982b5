"""The catalogue calls: which models there are, their schemas, price texts and success rates."""

import random
from typing import Any

from kiebot.simulators.clock import SimClock
from kiebot.simulators.kie.catalogue import Model, ModelBook
from kiebot.simulators.kie.exchange import Answer, Exchange, Reply
from kiebot.simulators.kie.noise import Noise, answer_of
from kiebot.simulators.kie.switches import Switches
from kiebot.simulators.kie.windows import Window

PREFIX = "/api/v1/models"
POINT_S = 600
POINTS = 144

_TASK_TYPES = {
    "image_edit": "Image Editing",
    "video_editing": "Video Editing",
    "lip_sync": "Lip Sync",
    "text_to_audio": "Text to Music",
}


class Discovery:
    """GET /api/v1/models and its three calls per model, one a second for the whole account.

    One listed model has no schema and one no price text, as happens in reality: `without_schema`, `without_price`.
    """

    def __init__(self, models: ModelBook, switches: Switches, noise: Noise, clock: SimClock, seed: int) -> None:
        self._models, self._switches, self._noise, self._clock, self._seed = models, switches, noise, clock, seed
        self._calls = Window(clock, 1.0)
        listed = [model.id for model in models.listed()]
        self.without_schema = listed[-1] if listed else ""
        self.without_price = listed[-2] if len(listed) > 1 else ""

    async def answer(self, exchange: Exchange) -> Reply:
        """Any of the four calls; code 404 for an unknown model or an unknown call."""
        if self._switches.rate_limits and not self._calls.admits(1):
            return answer_of(429)
        if reply := self._noise.reply_to(self._noise.draw("models")):
            return reply
        rest = exchange.path.removeprefix(PREFIX).strip("/")
        if not rest:
            return Answer(data=self._page(exchange.query))
        model_id, _, call = rest.rpartition("/")
        model = self._models.get(model_id)
        if model is None or model.status == "retired":
            return answer_of(404)
        return self._told(model, call)

    async def prices(self, exchange: Exchange) -> Reply:
        """POST /client/v1/model-pricing/page: the public price feed, no key needed."""
        body = await exchange.json()
        wanted = body if isinstance(body, dict) else {}
        size, number = max(1, int(wanted.get("pageSize") or 25)), max(1, int(wanted.get("pageNum") or 1))
        rows = [_price_row(model) for model in self._models.listed()]
        records = rows[(number - 1) * size : number * size]
        return Answer(data={"records": records, "total": len(rows), "pages": -(-len(rows) // size), "current": number})

    async def price_count(self, exchange: Exchange) -> Reply:
        """GET /client/v1/model-pricing/count."""
        return Answer(data=len(self._models.listed()))

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        rows = [self._row(model) for model in self._models.listed()]
        types = {word.strip().lower() for word in query.get("taskType", "").split(",") if word.strip()}
        provider, text = query.get("provider", "").lower(), query.get("q", "").lower()
        rows = [row for row in rows if not types or types & {word.lower() for word in row["taskType"]}]
        rows = [row for row in rows if provider in row["provider"].lower()]
        rows = [row for row in rows if text in f"{row['model']} {row['title']}".lower()]
        return {"total": len(rows), "models": rows}

    def _row(self, model: Model) -> dict[str, Any]:
        kind = str(model.row.get("type", ""))
        return {
            "model": model.id,
            "slug": model.id.replace("/", "-"),
            "title": model.row.get("title", model.id),
            "provider": model.row.get("vendor", ""),
            "taskType": [_TASK_TYPES.get(kind, kind.replace("_", " ").title().replace(" To ", " to "))],
            "description": model.row.get("summary"),
            "pricingDesc": None if model.id == self.without_price else _price_text(model),
        }

    def _told(self, model: Model, call: str) -> Answer:
        match call:
            case "schema":
                return Answer(data={"model": model.id, "openapi": self._openapi(model)})
            case "price":
                text = None if model.id == self.without_price else _price_text(model)
                return Answer(data={"model": model.id, "pricingDesc": text})
            case "success-rate":
                return Answer(data={"model": model.id, "points": self._points(model)})
            case _:
                return answer_of(404)

    def _openapi(self, model: Model) -> dict[str, Any] | None:
        if model.id == self.without_schema:
            return None
        properties = {"model": {"type": "string", "enum": [model.id]}, "input": model.schema}
        body = {"type": "object", "required": ["model", "input"], "properties": properties}
        content = {"application/json": {"schema": body}}
        path = {"post": {"operationId": model.id, "requestBody": {"content": content}}}
        return {"openapi": "3.0.1", "paths": {"/api/v1/jobs/createTask": path}}

    def _points(self, model: Model) -> list[dict[str, Any]]:
        rng = random.Random(f"{self._seed}/{model.id}")
        last = int(self._clock.now()) // POINT_S * POINT_S
        return [_point(start, rng) for start in range(last - POINTS * POINT_S, last, POINT_S)]


def _point(start: int, rng: random.Random) -> dict[str, Any]:
    is_idle = rng.random() < 0.1
    rate = None if is_idle else round(rng.uniform(0.85, 1.0), 4)
    error_rate = None if rate is None else round(1 - rate, 4)
    times = {"start": start * 1000, "end": (start + POINT_S) * 1000}
    return {**times, "successRate": rate, "errorRate": error_rate, "isNormal": rate is None or rate > 0.9}


def _price_text(model: Model) -> str:
    price = model.price
    unit = f"{price['credits']:g} credits per {str(price.get('per', 'task')).replace('_', ' ')}"
    cases = [f"{rule['credits']:g} when {_condition(rule['when'])}" for rule in price.get("rules", ())]
    return "; ".join((unit, *cases))


def _condition(when: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in when.items())


def _price_row(model: Model) -> dict[str, Any]:
    credits = model.price["credits"]
    return {
        "modelDescription": f"{model.row.get('title', model.id)}, {model.row.get('type', '')}",
        "creditPrice": f"{credits:g}",
        "usdPrice": f"{credits * 0.005:g}",
    }
