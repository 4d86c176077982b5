"""/admin: the menu, what is off, and what admins did last."""

from __future__ import annotations

from kiebot.admin.model import EVERYTHING, AuditLine
from kiebot.bot.admin.screens import pager, show, stamp, title_of
from kiebot.bot.press import IN_PLACE
from kiebot.bot.unit import Unit
from kiebot.bot.words import line

PER_PAGE = 10


async def admin(unit: Unit) -> None:
    off = {each.model_id: each for each in await unit.tx.switches.off()}
    paused = off.pop(EVERYTHING, None)
    parts = [unit.t("Admin")]
    if paused is not None:
        since, reason = stamp(paused.off_since), paused.reason or "–"
        parts.append(unit.t("⏸ New works are paused since {time}: {reason}", time=since, reason=reason))
    if off:
        parts.append(unit.t("Off: {models}", models=", ".join(title_of(model_id) for model_id in sorted(off))))
    parts.append(
        unit.t(
            "/user ID – a user\n/grant ID CREDITS REASON – give credits\n/refund CHARGE REASON\n"
            "/block ID REASON · /unblock ID\n"
            "/off MODEL REASON · /on MODEL\n/pause REASON · /resume\n/stats DAYS · /letters · /work NUMBER"
        )
    )
    stop = unit.t("▶️ Go on") if paused else unit.t("⏸ Pause")
    rows = (
        (
            unit.button(unit.t("📊 Figures"), "z6:1", IN_PLACE),
            unit.button(unit.t("🎛 Models"), "z3:l:0", IN_PLACE),
        ),
        (
            unit.button(unit.t("🗃 Works"), "z5:l:0", IN_PLACE),
            unit.button(unit.t("✉️ Dead letters"), "z4:l:0", IN_PLACE),
        ),
        (
            unit.button(stop, "z3:r" if paused else "z3:p", IN_PLACE),
            unit.button(unit.t("📜 Done by admins"), "z1:a:0", IN_PLACE),
        ),
    )
    unit.say("\n\n".join(parts), rows, edit=unit.screen_id)


async def pressed(unit: Unit) -> None:
    """z1 · z1:a:<page>"""
    if unit.argument(0) == "a":
        await _acts(unit, unit.number(1))
    else:
        await admin(unit)


async def _acts(unit: Unit, page: int) -> None:
    found = await unit.tx.audit.latest(most=PER_PAGE + 1, skip=page * PER_PAGE)
    lines = [_line(each) for each in found[:PER_PAGE]]
    text = "\n".join(lines) or unit.t("Nothing yet.")
    show(unit, text, pager(unit, "z1:a", page, has_more=len(found) > PER_PAGE))


def _line(each: AuditLine) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in each.facts.items() if value != "")
    return f"{stamp(each.at)} · {each.actor} · {each.action} {each.subject} {line(facts, 80)}".rstrip()
