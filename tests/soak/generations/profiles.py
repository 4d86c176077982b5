"""How a generation may go wrong, or well, at KIE: one line per profile, dealt out by a seed.

Marks are words of the simulator's `[[sim:…]]` language. `<n>` stands for n of KIE's seconds, which pass as fast as
KIE_PACE says.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import get_args

from kiebot.simulators.kie.failures import FailureClass
from kiebot.simulators.kie.switches import CallbackMode, ResultMode

_SECONDS = re.compile(r"<(\d+)>")
_SLOW_RESULTS = ("truncated", "slow", "endless")
_QUICK_RESULTS = [each for each in get_args(ResultMode) if each not in ("normal", *_SLOW_RESULTS)]
# A lost answer is bad enough; its callback may go astray in these ways and must still be good for adoption.
_SPICE = ("", "", "", "callback=duplicate", "callback=out_of_order", "callback=unknown_task", "callback=replayed")


@dataclass(frozen=True, slots=True)
class Profile:
    """`weight`: of those that are dealt after everybody had one. `is_quick`: ends within a few seconds at any pace.

    is_spiced: with a callback that may go astray too.
    """

    name: str
    marks: str = ""
    weight: int = 1
    is_quick: bool = True
    is_spiced: bool = False

    def prompt_marks(self, rng: random.Random, pace: float) -> str:
        """As they stand in a prompt."""
        words = [*self.marks.split(), *([rng.choice(_SPICE)] if self.is_spiced else [])]
        return " ".join(f"[[sim:{_SECONDS.sub(lambda n: f'{int(n[1]) * pace:g}', word)}]]" for word in words if word)


PROFILES = (
    Profile("A waiting, success", weight=30),
    Profile("B generating, success", "profile=B", 4),
    Profile("C every state, success", "profile=C", 3),
    Profile("D an unknown state", "profile=D", 3),
    Profile("E stuck for ever", "profile=E", 2),
    Profile("F moderated at once", "profile=F", 2),
    Profile("G time-out at last", "profile=G seconds=<660>", is_quick=False),
    Profile("H success without result", "profile=H", 3),
    Profile("I several results", "profile=I", 2),
    Profile("J query says 501", "profile=J", 2),
    *(Profile(f"fails: {each}", f"fail={each}", is_quick=each != "capacity") for each in get_args(FailureClass)),
    *(Profile(f"refused with {code}", f"code={code}") for code in (400, 422, 451)),
    *(Profile(f"refused with {code}, always", f"code={code}", is_quick=False) for code in (500, 501, 550)),
    *(Profile(f"code {code}, no task", f"code={code}") for code in (503, 504)),
    Profile("lost a: made, cut", "lose=a", 3, is_spiced=True),
    Profile("lost b: made, too late", "lose=b", 2, is_quick=False, is_spiced=True),
    Profile("lost c: not made, cut", "lose=c", 2),
    Profile("lost d: made, 502", "lose=d", 3, is_spiced=True),
    Profile("lost d: not made, 502", "lose=d0", 2),
    Profile("lost e: made, cut JSON", "lose=e", 3, is_spiced=True),
    *(Profile(f"lost {each}, a late orphan", f"lose={each} seconds=<400>", is_spiced=True) for each in "ade"),
    Profile("lost a, no callback", "lose=a callback=missing", 2),
    Profile("lost a, forged callback", "lose=a seconds=<30> callback=forged"),
    Profile("lost a, bad signature", "lose=a callback=wrong_signature"),
    Profile("lost a, not visible yet", "lose=a seconds=<10> gap=<40>", 2),
    Profile("lost a, late, not ended yet", "lose=a seconds=<400> callback=early", 2),
    Profile("lost a, late, no callback", "lose=a seconds=<400> callback=missing"),
    Profile("lost a, stuck", "lose=a profile=E"),
    Profile("lost a, then fails", "lose=a fail=server seconds=<10>", 2),
    Profile("lost a, then moderated", "lose=a profile=F"),
    Profile("lost a, then empty", "lose=a profile=H seconds=<10>"),
    Profile("lost a, result dead", "lose=a seconds=<10> dead_result"),
    *(Profile(f"callback {each.replace('_', ' ')}", f"callback={each}") for each in get_args(CallbackMode)),
    *(Profile(f"result {each.replace('_', ' ')}", f"result={each}") for each in _QUICK_RESULTS),
    *(Profile(f"result {each}", f"result={each}", is_quick=False) for each in _SLOW_RESULTS),
    Profile("result dead, callback late", "result=dead callback=late"),
    Profile("visible late", "gap=<40>", 2),
    Profile("never visible", "gap=<100000>", 2),
)


def deal(rng: random.Random, count: int) -> list[Profile]:
    """So many, shuffled: each profile once where there is room for all, the rest by weight; else quick ones only."""
    if count >= len(PROFILES):
        rest = rng.choices(PROFILES, [each.weight for each in PROFILES], k=count - len(PROFILES))
        dealt = [*PROFILES, *rest]
    else:
        quick = [each for each in PROFILES if each.is_quick]
        dealt = rng.sample(quick, k=min(count, len(quick)))
    rng.shuffle(dealt)
    return dealt
