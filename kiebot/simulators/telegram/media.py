"""Methods that send files: by upload, by file_id, by URL; one or an album."""

from typing import Any

from kiebot.simulators.telegram.answers import ApiError, Json, bad_request, refuse
from kiebot.simulators.telegram.arguments import Upload
from kiebot.simulators.telegram.files import SentFile
from kiebot.simulators.telegram.markup import read_caption
from kiebot.simulators.telegram.request import Handler, Request
from kiebot.simulators.telegram.sending import content_key, take_markup

MAX_ALBUM = 10
_ALBUM_KINDS = ("photo", "video", "audio", "document")
_ALONE = ("document", "audio")  # these stay among themselves in an album


def send_file(kind: str) -> Handler:
    """The method that sends one file of that kind."""

    def send(request: Request) -> Json:
        chat = request.chat()
        fields = caption_fields(request.arguments.values, request.arguments.json("caption_entities"))
        file = read_file(request, kind, request.arguments.text(kind), request.arguments.files.get(kind))
        markup = take_markup(request, chat)
        message = request.post(chat, file_fields(file) | fields, file, markup=markup)
        request.call.sent = (chat.chat_id, *content_key(message))
        return message.body

    return send


def caption_fields(values: dict[str, Any], entities: object) -> Json:
    """Caption and its entities as message fields; none for an empty caption. Raises: ApiError."""
    formatted = read_caption(str(values.get("caption") or ""), str(values.get("parse_mode") or ""), entities)
    fields: Json = {"caption": formatted.text} if formatted.text else {}
    if formatted.entities:
        fields["caption_entities"] = formatted.entities
    return fields


def file_fields(file: SentFile) -> Json:
    """The message fields that describe a file; an animation is described as a document too."""
    fields: Json = {file.kind: file.as_json()}
    if file.kind == "animation":
        fields["document"] = file.as_json()
    return fields


def read_file(request: Request, kind: str, value: str, upload: Upload | None) -> SentFile:
    """The file meant by an upload, `attach://name`, http(s) URL or file_id. Raises: ApiError."""
    files = request.bot.files
    if value.startswith("attach://"):
        upload = request.arguments.files.get(value.removeprefix("attach://"))
    if upload is not None:
        return files.accept(kind, upload)
    if not value:
        refuse(f"there is no {kind} in the request")
    if value.lower().startswith(("http://", "https://")):
        if " " in value or "." not in value.split("//", 1)[1]:
            refuse("wrong HTTP URL specified")
        return files.accept_url(kind, value, request.urls.get(value))
    return files.by_id(kind, value)


def send_media_group(request: Request) -> list[Json]:
    chat = request.chat()
    items = _album(request.arguments.json("media"))
    parts = [_album_part(request, item, number) for number, item in enumerate(items, 1)]
    request.replied_message(chat)  # refuses before anything is sent: an album comes whole or not at all
    group = str(request.bot.world.rng.randrange(10**16, 10**17))
    group_field = {"media_group_id": group} if len(parts) > 1 else {}
    messages = [request.post(chat, file_fields(file) | fields | group_field, file) for file, fields in parts]
    request.call.sent = (chat.chat_id, *(content_key(message) for message in messages))
    return [message.body for message in messages]


def _album(given: object) -> list[Json]:
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        refuse("can't parse media JSON object")
    if not given:
        refuse("there are no messages to send")
    if len(given) > MAX_ALBUM:
        refuse("too many messages to send as an album")
    kinds = {item.get("type") for item in given}
    for kind in _ALONE:
        if kind in kinds and len(kinds) > 1:
            refuse(f"{kind} can't be mixed with other media types")
    return given


def _album_part(request: Request, item: Json, number: int) -> tuple[SentFile, Json]:
    kind = str(item.get("type"))
    if kind not in _ALBUM_KINDS:
        refuse(f"can't parse InputMedia: media type {kind} can't be used in an album")
    fields = caption_fields(item, item.get("caption_entities"))
    try:
        return read_file(request, kind, str(item.get("media") or ""), None), fields
    except ApiError as error:
        reason = error.description.removeprefix("Bad Request: ")
        text = f'failed to send message #{number} with the error message "{reason}"'
        raise bad_request(text) from error


def get_file(request: Request) -> Json:
    return request.bot.files.describe(request.arguments.text("file_id"))


def urls_in(request: Request) -> list[str]:
    """The http(s) addresses that a media method asks the server to fetch."""
    method = request.call.method.lower()
    values = [request.arguments.text(method.removeprefix("send"))]
    given = request.arguments.json("media")
    items = given if isinstance(given, list) else [given]
    values += [str(item.get("media") or "") for item in items if isinstance(item, dict)]
    return [value for value in values if value.lower().startswith(("http://", "https://"))]


METHODS: dict[str, Handler] = {
    "sendphoto": send_file("photo"),
    "sendvideo": send_file("video"),
    "sendaudio": send_file("audio"),
    "senddocument": send_file("document"),
    "sendanimation": send_file("animation"),
    "sendvoice": send_file("voice"),
    "sendmediagroup": send_media_group,
    "getfile": get_file,
}
TAKES_URLS = frozenset(METHODS) - {"getfile"} | {"editmessagemedia"}
