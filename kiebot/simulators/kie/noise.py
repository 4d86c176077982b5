"""Trouble below the envelope: gateway pages, broken bodies, broken connections."""

import random

from kiebot.simulators.kie.exchange import Answer, Cut, Late, Page, Reply
from kiebot.simulators.kie.failures import CODE_TEXTS
from kiebot.simulators.kie.faults import Endpoint, Faults
from kiebot.simulators.kie.switches import Switches

_GATEWAY_TEXTS = {502: "Bad gateway", 503: "Service Temporarily Unavailable", 504: "Gateway time-out"}


class Noise:
    """Draws the fault of a request: a scripted one first, else a random one at the rate of the switches."""

    def __init__(self, faults: Faults, switches: Switches, rng: random.Random) -> None:
        self._faults, self._switches, self._rng = faults, switches, rng

    def draw(self, endpoint: Endpoint, model: str | None = None) -> str | None:
        """The kind of fault that strikes this request, or None."""
        kind = self._faults.take(endpoint, model)
        if kind is None and self._switches.noise_rate and self._rng.random() < self._switches.noise_rate:
            kind = self._rng.choice(self._switches.noise_kinds)
        return kind

    def reply_to(self, kind: str | None) -> Reply | None:
        """What goes out in place of a real answer; None when the fault is not of this kind (or is none).

        `slow_headers` is such a kind too: the client hears nothing for a while, then a time-out page.
        """
        if kind is None:
            return None
        if kind == "reset":
            return Cut()
        if kind == "not_json":
            return Page(200, b"upstream connect error or disconnect/reset before headers", "text/plain")
        if kind == "slow_headers":
            return Late(self._switches.slow_headers_s, gateway_page(504))
        if kind.startswith("html_"):
            return gateway_page(int(kind.removeprefix("html_")))
        if kind.startswith("code_"):
            return answer_of(int(kind.removeprefix("code_")))
        if kind.startswith("http_"):
            return Page(
                int(kind[5:]), b'{"code":%s,"msg":"refused","data":null}' % kind[5:].encode(), "application/json"
            )
        return None


def answer_of(code: int, msg: str | None = None) -> Answer:
    """An envelope that refuses, with the usual text for its code."""
    return Answer(code, msg or CODE_TEXTS.get(code, "Server exception, please try again later"))


def gateway_page(status: int) -> Page:
    """An HTML error page as the gateway in front of the service makes it."""
    text = _GATEWAY_TEXTS.get(status, "Error")
    body = f"<html><head><title>{status} {text}</title></head><body><h1>{status} {text}</h1></body></html>"
    return Page(status, body.encode())
