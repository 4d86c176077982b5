"""The control side over HTTP, for other processes: `/_sim/…`, JSON in and out. Never part of what a bot may call.

GET  /_sim/state                         bots, queue lengths, parked polls, counts
GET  /_sim/journal?after=&limit=&method= calls as JSON
GET  /_sim/checks                        live poll overlaps, 409s to live clients, duplicate sends, too early sends
POST /_sim/inject                        {"kind", "payload"}
POST /_sim/users                         {"user_id", "name", "language_code", "started"}
GET  /_sim/users/<id>/messages           what this person sees
POST /_sim/users/<id>/<act>              sends {"text"} · presses {"label"} · presses_data {"data"} · pays {"link"} or
                                         {"message_id"} · blocks_bot · unblocks_bot · sends_photo {"base64", "caption"}
POST /_sim/faults                        {"fault": "answers" | "delays" | "cuts_before" | …, …its arguments}
POST /_sim/clear_faults, /_sim/restart {"cuts"}, /_sim/revoke, /_sim/restore
"""

import base64
import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from kiebot.simulators.server import Scope
from kiebot.simulators.telegram.answers import Answer, Json, encode
from kiebot.simulators.telegram.messages import ChatMessage

if TYPE_CHECKING:
    from kiebot.simulators.telegram.simulator import TelegramSimulator
    from kiebot.simulators.users import SimUser

_FAULTS = ("answers", "breaks", "delays", "delays_answer", "cuts_before", "cuts_after", "overlaps")


class Control:
    """Drives a simulator by HTTP requests. A request that makes no sense gets 400 with the reason."""

    def __init__(self, simulator: "TelegramSimulator") -> None:
        self._sim = simulator

    async def answer(self, scope: Scope, body: bytes) -> Answer:
        parts = scope["path"].removeprefix("/_sim/").strip("/").split("/")
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        try:
            given = msgspec.json.decode(body, type=dict[str, Any]) if body else {}
            result = await self._route(scope["method"], parts, query, given)
        except (LookupError, ValueError, TypeError, msgspec.DecodeError) as error:
            return Answer(400, encode({"error": f"{type(error).__name__}: {error}"}))
        return Answer(200, encode(result))

    async def _route(self, verb: str, parts: list[str], query: dict[str, str], given: Json) -> Any:
        match verb, parts:
            case "GET", ["state"]:
                return self._state()
            case "GET", ["journal"]:
                return self._journal(query)
            case "GET", ["checks"]:
                return self._checks()
            case "POST", ["inject"]:
                return {"update_id": self._sim.inject(given["kind"], given["payload"])}
            case "POST", ["users"]:
                return {"user": self._sim.user(**given).user}
            case "GET", ["users", user_id, "messages"]:
                return [_seen(message) for message in self._user(user_id).messages]
            case "POST", ["users", user_id, act]:
                return await self._act(self._user(user_id), act, given)
            case "POST", [operation]:
                return self._operate(operation, given)
        raise LookupError(f"no such control: {verb} {'/'.join(parts)}")

    def _user(self, user_id: str) -> "SimUser":
        return self._sim.user(int(user_id))

    def _state(self) -> Json:
        bots = [
            {
                "bot_id": bot.bot_id,
                "username": bot.username,
                "pending": len(bot.queue),
                "stored": bot.stored_count,
                "parked_process": bot.polls.parked.process if bot.polls.parked else None,
                "webhook": bot.webhook.settings.url,
            }
            for bot in self._sim.by_token.values()
        ]
        counts = [[method, status, count] for (method, status), count in self._sim.journal.counts.items()]
        return {"now": self._sim.clock.now(), "bots": bots, "counts": counts}

    def _journal(self, query: dict[str, str]) -> list[Json]:
        after, limit = int(query.get("after", "0")), int(query.get("limit", "1000"))
        calls = self._sim.journal.calls(method=query.get("method"), after=after)
        return [call.as_json() for call in calls[-limit:]]

    def _checks(self) -> Json:
        journal = self._sim.journal
        overlaps = [[o.first.number, o.second.number, o.seconds] for o in journal.live_poll_overlaps()]
        return {
            "live_poll_overlaps": overlaps,
            "conflicts_to_live_clients": [call.number for call in journal.conflicts_to_live_clients()],
            "duplicate_sends": [[call.number for call in group] for group in journal.duplicate_sends()],
            "too_early": [call.number for call in journal.too_early()],
        }

    async def _act(self, user: "SimUser", act: str, given: Json) -> Any:
        match act:
            case "sends":
                return dataclasses.asdict(await user.sends(given["text"]))
            case "sends_photo":
                data = base64.b64decode(given["base64"])
                return dataclasses.asdict(await user.sends_photo(data, given.get("caption", "")))
            case "presses":
                press = await user.presses(given["label"])
                return {"query_id": press.query_id if press else None}
            case "presses_data":
                return {"query_id": (await user.presses_data(given["data"])).query_id}
            case "pays":
                invoice = given["link"] if "link" in given else user.message(given["message_id"])
                return dataclasses.asdict(await user.pays(invoice))
            case "blocks_bot":
                return dataclasses.asdict(user.blocks_bot())
            case "unblocks_bot":
                return dataclasses.asdict(user.unblocks_bot())
        raise LookupError(f"a user cannot do that: {act}")

    def _operate(self, operation: str, given: Json) -> bool:
        sim = self._sim
        match operation:
            case "faults":
                name = given.pop("fault")
                if name not in _FAULTS:
                    raise LookupError(f"no such fault: {name}")
                getattr(sim.faults, name)(**given)
            case "clear_faults":
                sim.faults.clear()
            case "restart":
                sim.restart(cuts=bool(given.get("cuts", True)))
            case "revoke":
                sim.revoke()
            case "restore":
                sim.restore()
            case _:
                raise LookupError(f"no such operation: {operation}")
        return True


def _seen(message: ChatMessage) -> Json:
    size = len(message.media_bytes) if message.media_bytes is not None else None
    return {"message": message.body, "media_kind": message.media_kind, "media_bytes": size}
