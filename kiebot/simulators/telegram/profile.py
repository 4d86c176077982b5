"""Methods about the bot itself and about chats: who am I, commands, descriptions, menu button, getChat."""

import re
from typing import Any

from kiebot.simulators.telegram.answers import Json, refuse
from kiebot.simulators.telegram.request import Handler, Request

_COMMAND = re.compile(r"[a-z0-9_]{1,32}")
_MAX_COMMANDS = 100
_MAX_COMMAND_DESCRIPTION = 256
_TEXTS = {"name": 64, "description": 512, "short_description": 120}


def get_me(request: Request) -> Json:
    flags = dict.fromkeys(("can_join_groups", "can_connect_to_business"), True)
    more = ("can_read_all_group_messages", "supports_inline_queries", "has_main_web_app")
    return request.bot.user | flags | dict.fromkeys(more, False)


def get_chat(request: Request) -> Json:
    chat = request.chat_for_reading()
    return chat.as_json() | {"accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": {}}


def get_chat_member(request: Request) -> Json:
    chat, user_id = request.chat_for_reading(), request.arguments.integer("user_id")
    if user_id == request.bot.bot_id:
        return {"status": chat.status, "user": request.bot.user}
    user = chat.members.get(user_id)
    if user is None:
        refuse("user not found")
    return {"status": "member", "user": user}


def set_my_commands(request: Request) -> bool:
    commands = request.arguments.json("commands")
    if not isinstance(commands, list):
        refuse("can't parse commands JSON object")
    if len(commands) > _MAX_COMMANDS:
        refuse("BOT_COMMANDS_TOO_MUCH")
    for command in commands:
        _check_command(command)
    request.bot.settings[_commands_key(request)] = commands
    return True


def _check_command(command: object) -> None:
    if not isinstance(command, dict) or not _COMMAND.fullmatch(str(command.get("command", "")).removeprefix("/")):
        refuse("BOT_COMMAND_INVALID")
    if not 1 <= len(str(command.get("description", ""))) <= _MAX_COMMAND_DESCRIPTION:
        refuse("BOT_COMMAND_DESCRIPTION_INVALID")


def get_my_commands(request: Request) -> Any:
    return request.bot.settings.get(_commands_key(request), [])


def delete_my_commands(request: Request) -> bool:
    request.bot.settings.pop(_commands_key(request), None)
    return True


def _commands_key(request: Request) -> str:
    scope = request.arguments.json("scope")
    kind = scope.get("type", "default") if isinstance(scope, dict) else "default"
    chat_id = scope.get("chat_id", "") if isinstance(scope, dict) else ""
    return f"commands:{kind}:{chat_id}:{request.arguments.text('language_code')}"


def set_text(name: str, limit: int) -> Handler:
    def setter(request: Request) -> bool:
        text = request.arguments.text(name)
        if len(text) > limit:
            refuse(f"BOT_{name.upper()}_INVALID")
        request.bot.settings[f"{name}:{request.arguments.text('language_code')}"] = text
        return True

    return setter


def get_text(name: str) -> Handler:
    def getter(request: Request) -> Json:
        key = f"{name}:{request.arguments.text('language_code')}"
        return {name: request.bot.settings.get(key, "")}

    return getter


def set_chat_menu_button(request: Request) -> bool:
    button = request.arguments.json("menu_button") or {"type": "default"}
    request.bot.settings[f"menu:{request.arguments.text('chat_id')}"] = button
    return True


def get_chat_menu_button(request: Request) -> Any:
    return request.bot.settings.get(f"menu:{request.arguments.text('chat_id')}", {"type": "commands"})


def accept(request: Request) -> bool:
    """A setting nobody here looks at."""
    return True


METHODS: dict[str, Handler] = {
    "getme": get_me,
    "getchat": get_chat,
    "getchatmember": get_chat_member,
    "setmycommands": set_my_commands,
    "getmycommands": get_my_commands,
    "deletemycommands": delete_my_commands,
    "setchatmenubutton": set_chat_menu_button,
    "getchatmenubutton": get_chat_menu_button,
    "setmydefaultadministratorrights": accept,
    "setmyprofilephoto": accept,
    **{f"setmy{name.replace('_', '')}": set_text(name, limit) for name, limit in _TEXTS.items()},
    **{f"getmy{name.replace('_', '')}": get_text(name) for name in _TEXTS},
}
