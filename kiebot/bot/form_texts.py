"""The sentences of a form: English as message ids, parameters as data; the catalogues translate the ids.

RUSSIAN is the wording offered to the catalogue for every id used here. Parameters are raw (a user's own text among
them): whoever renders a Text escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kiebot.generation.checks import Problem
from kiebot.generation.fields import InputField
from kiebot.generation.product import Model

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Text:
    """A message id and what fills its {places}."""

    msgid: str
    params: Mapping[str, str | int] = field(default_factory=dict)


def problem_text(model: Model, problem: Problem, language: str) -> Text:
    """A problem in words, with the fields' titles and the limit it names."""
    params: dict[str, str | int] = {"field": _titles(model, problem, language), "limit": _limit(problem)}
    params |= {name: _plain(value) for name, value in problem.facts.items() if value is not None}
    if problem.code == "wrong_media":
        return Text(_WRONG_MEDIA.get(str(problem.facts.get("wanted")), _WRONG_MEDIA["image"]), params)
    if problem.code == "out_of_range":
        return Text(_range_text(params), params)
    if problem.code == "seconds_each" and not problem.facts.get("minimum"):
        return Text(_SECONDS_AT_MOST, params)
    return Text(_PROBLEMS.get(problem.code, "{field}: this does not fit."), params)


def ask_text(asked: InputField, language: str) -> Text:
    """What to send for a field."""
    return Text(
        _ASKS[asked.kind if not asked.kind.is_media else f"{asked.kind}:{asked.media}"], _title(asked, language)
    )


def _title(asked: InputField, language: str) -> dict[str, str | int]:
    return {"field": asked.title_in(language)}


def _titles(model: Model, problem: Problem, language: str) -> str:
    known = [each for each in model.inputs if each.name in problem.fields]
    return ", ".join(each.title_in(language) for each in known)


def _limit(problem: Problem) -> str | int:
    if problem.limit is None:
        return ""
    if problem.code == "too_large" and isinstance(problem.limit, int | float):
        return _plain(problem.limit / _MEGABYTE)
    return _plain(problem.limit)


def _plain(value: object) -> str | int:
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    return value if isinstance(value, int) else str(value)


def _range_text(params: Mapping[str, object]) -> str:
    if "minimum" in params and "maximum" in params:
        return "{field} must be between {minimum} and {maximum}."
    return "{field} is out of range."


_SECONDS_AT_MOST = "{field}: a file may last {limit} seconds at most."

_PROBLEMS = {
    "missing": "Still needed: {field}.",
    "too_long": "{field} is too long: {limit} characters at most.",
    "too_short": "{field} is too short: at least {limit} characters.",
    "not_a_step": "{field} must be a multiple of {limit}.",
    "not_allowed": "{field}: choose one of the values on the buttons.",
    "wrong_type": "{field}: this does not fit.",
    "too_many": "{field}: {limit} at most.",
    "too_few": "{field}: at least {limit}.",
    "too_large": "The file is too large for {field}: {limit} MB at most.",
    "combination": "These choices do not go together: {field}.",
    "excludes": "Frames and references cannot be mixed: {field}.",
    "needs": "The last frame needs a first frame.",
    "seconds_each": "{field}: every file must last {minimum} to {maximum} seconds.",
    "seconds_total": "{field}: {limit} seconds at most, all together.",
    "chars_total": "{field}: {limit} characters at most, all lines together.",
    "shots_total": "The shots last {total} seconds, the clip {limit}. Make them equal.",
    "unmeasurable": (
        "The price depends on this file, and Telegram does not say its length or size. "
        "Send it as a photo, video or audio, not as a file."
    ),
    "not_sellable": "This combination is not on sale. Change one of the choices.",
    "result_too_large": "The result would be larger than {limit} pixels. Choose a smaller factor or a smaller picture.",
    "unknown_voice": "There is no voice “{name}”. Some that exist: {known}.",
    "bad_shot": "Write every shot on a line of its own: seconds, colon, scene. For example “5: a cat wakes up”.",
    "bad_subject": "First write “name: description”, then send two to four pictures of the subject.",
    "no_text": "There is nothing to write here. Use the buttons or send a file.",
    "no_media": "This model takes no files. Send a text instead.",
}

_WRONG_MEDIA = {
    "image": "{field} takes pictures only (JPEG, PNG or WebP).",
    "video": "{field} takes videos only (MP4 or MOV).",
    "audio": "{field} takes audio only (MP3, M4A, WAV or OGG).",
}

_ASKS = {
    "prompt": "Describe in one message what you want.",
    "text": "Send the text: {field}.",
    "choice": "Choose or type: {field}.",
    "flag": "Choose: {field}.",
    "integer": "Send a whole number: {field}.",
    "number": "Send a number: {field}.",
    "media:image": "Send a picture: {field}.",
    "media:video": "Send a video: {field}.",
    "media:audio": "Send an audio or a voice message: {field}.",
    "media_list:image": "Send one or more pictures: {field}.",
    "media_list:video": "Send one or more videos: {field}.",
    "media_list:audio": "Send one or more audio files: {field}.",
    "dialogue": "Send the dialogue, a line each: “Voice: words”. Without a voice, the last one goes on speaking.",
    "shots": "Send the shots, a line each: “seconds: scene”.",
    "subjects": "Send “name: description”, then two to four pictures. Mention it in the prompt as @name.",
}

READY = "Ready. Send another text to change it, or create."
DETAIL = "{field}: {value}"
OPTION = "{field}: {value}"
OPTION_ON = "✅ {field}"
OPTION_OFF = "▫️ {field}"
FILES = "{field}: {count} of {limit}"
FILES_OPEN = "{field}: {count}"
VOICES = "Voices: {names}"
RANGE = "From {minimum} to {maximum}."
CREATE = "✨ Create · {credits} credits"
CREATE_AT_MOST = "✨ Create · up to {credits} credits"
PRICE = "Price: {credits} credits."
PRICE_AT_MOST = "Price: up to {credits} credits."
AT_MOST = "You pay what it really takes, {credits} credits at most."
ONE_CREDIT = {
    CREATE: "✨ Create · {credits} credit",
    CREATE_AT_MOST: "✨ Create · up to {credits} credit",
    PRICE: "Price: {credits} credit.",
    PRICE_AT_MOST: "Price: up to {credits} credit.",
    AT_MOST: "You pay what it really takes, {credits} credit at most.",
}
MORE = "⚙️ More options"
BACK = "‹ Back"
CANCEL = "Cancel"
CLEAR = "Clear"
REMOVE = "✖ {number}"
NEXT_PAGE = "More ›"
PREVIOUS_PAGE = "‹ Previous"

RUSSIAN: Mapping[str, str] = {
    "{field}: this does not fit.": "{field}: так не подходит.",
    _SECONDS_AT_MOST: "{field}: файл не длиннее {limit} с.",
    "{field} must be between {minimum} and {maximum}.": "{field}: число от {minimum} до {maximum}.",
    "{field} is out of range.": "{field}: число вне допустимых пределов.",
    _PROBLEMS["missing"]: "Ещё нужно: {field}.",
    _PROBLEMS["too_long"]: "{field}: слишком длинно, не больше {limit} знаков.",
    _PROBLEMS["too_short"]: "{field}: слишком коротко, не меньше {limit} знаков.",
    _PROBLEMS["not_a_step"]: "{field}: число должно делиться на {limit}.",
    _PROBLEMS["not_allowed"]: "{field}: выберите одно из значений на кнопках.",
    _PROBLEMS["too_many"]: "{field}: не больше {limit}.",
    _PROBLEMS["too_few"]: "{field}: не меньше {limit}.",
    _PROBLEMS["too_large"]: "Файл слишком большой для «{field}»: не больше {limit} МБ.",
    _PROBLEMS["combination"]: "Эти варианты не сочетаются: {field}.",
    _PROBLEMS["excludes"]: "Кадры и референсы нельзя смешивать: {field}.",
    _PROBLEMS["needs"]: "К последнему кадру нужен первый.",
    _PROBLEMS["seconds_each"]: "{field}: каждый файл от {minimum} до {maximum} с.",
    _PROBLEMS["seconds_total"]: "{field}: вместе не больше {limit} с.",
    _PROBLEMS["chars_total"]: "{field}: во всех репликах вместе не больше {limit} знаков.",
    _PROBLEMS["shots_total"]: "Планы длятся {total} с, а ролик {limit} с. Сделайте их равными.",
    _PROBLEMS["unmeasurable"]: (
        "Цена зависит от этого файла, а Telegram не сообщает его длину или размер. "
        "Отправьте его как фото, видео или аудио, а не файлом."
    ),
    _PROBLEMS["not_sellable"]: "Такое сочетание не продаётся. Измените один из вариантов.",
    _PROBLEMS["result_too_large"]: "Результат был бы больше {limit} точек. Выберите меньшее увеличение или картинку.",
    _PROBLEMS["unknown_voice"]: "Голоса «{name}» нет. Есть, например: {known}.",
    _PROBLEMS["bad_shot"]: "Каждый план с новой строки: секунды, двоеточие, сцена. Например: «5: кот просыпается».",
    _PROBLEMS["bad_subject"]: "Сначала напишите «имя: описание», затем пришлите от двух до четырёх картинок героя.",
    _PROBLEMS["no_text"]: "Здесь писать нечего. Нажмите кнопку или пришлите файл.",
    _PROBLEMS["no_media"]: "Эта модель не принимает файлы. Пришлите текст.",
    _WRONG_MEDIA["image"]: "«{field}» принимает только картинки (JPEG, PNG или WebP).",
    _WRONG_MEDIA["video"]: "«{field}» принимает только видео (MP4 или MOV).",
    _WRONG_MEDIA["audio"]: "«{field}» принимает только аудио (MP3, M4A, WAV или OGG).",
    _ASKS["prompt"]: "Опишите одним сообщением, что вы хотите.",
    _ASKS["text"]: "Пришлите текст: {field}.",
    _ASKS["choice"]: "Выберите или напишите: {field}.",
    _ASKS["flag"]: "Выберите: {field}.",
    _ASKS["integer"]: "Пришлите целое число: {field}.",
    _ASKS["number"]: "Пришлите число: {field}.",
    _ASKS["media:image"]: "Пришлите картинку: {field}.",
    _ASKS["media:video"]: "Пришлите видео: {field}.",
    _ASKS["media:audio"]: "Пришлите аудио или голосовое сообщение: {field}.",
    _ASKS["media_list:image"]: "Пришлите одну или несколько картинок: {field}.",
    _ASKS["media_list:video"]: "Пришлите одно или несколько видео: {field}.",
    _ASKS["media_list:audio"]: "Пришлите один или несколько аудиофайлов: {field}.",
    _ASKS["dialogue"]: "Пришлите диалог, реплика на строку: «Голос: слова». Без голоса говорит предыдущий.",
    _ASKS["shots"]: "Пришлите планы, по одному на строку: «секунды: сцена».",
    _ASKS["subjects"]: "Пришлите «имя: описание», затем от двух до четырёх картинок. В промпте пишите @имя.",
    READY: "Готово. Пришлите другой текст, чтобы изменить, или создавайте.",
    DETAIL: "{field}: {value}",
    OPTION_ON: "✅ {field}",
    OPTION_OFF: "▫️ {field}",
    FILES: "{field}: {count} из {limit}",
    FILES_OPEN: "{field}: {count}",
    VOICES: "Голоса: {names}",
    RANGE: "От {minimum} до {maximum}.",
    CREATE: "✨ Создать · {credits} кр.",
    CREATE_AT_MOST: "✨ Создать · до {credits} кр.",
    PRICE: "Цена: {credits} кр.",
    PRICE_AT_MOST: "Цена: до {credits} кр.",
    AT_MOST: "Вы платите столько, сколько выйдет на деле, но не больше {credits} кр.",
    ONE_CREDIT[CREATE]: "✨ Создать · {credits} кр.",
    ONE_CREDIT[CREATE_AT_MOST]: "✨ Создать · до {credits} кр.",
    ONE_CREDIT[PRICE]: "Цена: {credits} кр.",
    ONE_CREDIT[PRICE_AT_MOST]: "Цена: до {credits} кр.",
    ONE_CREDIT[AT_MOST]: "Вы платите столько, сколько выйдет на деле, но не больше {credits} кр.",
    MORE: "⚙️ Ещё настройки",
    BACK: "‹ Назад",
    CANCEL: "Отмена",
    CLEAR: "Очистить",
    REMOVE: "✖ {number}",
    NEXT_PAGE: "Ещё ›",
    PREVIOUS_PAGE: "‹ Раньше",
}


def message_ids() -> frozenset[str]:
    """Every id a form can show, for the check that each is translated."""
    constants = (READY, DETAIL, OPTION, OPTION_ON, OPTION_OFF, FILES, FILES_OPEN, VOICES, RANGE, CREATE, CREATE_AT_MOST)
    buttons = (PRICE, PRICE_AT_MOST, AT_MOST, MORE, BACK, CANCEL, CLEAR, REMOVE, NEXT_PAGE, PREVIOUS_PAGE)
    ranges = (_SECONDS_AT_MOST, _range_text({}), _range_text({"minimum": 0, "maximum": 1}))
    tables = (*_PROBLEMS.values(), *_WRONG_MEDIA.values(), *_ASKS.values(), *ONE_CREDIT.values())
    return frozenset((*constants, *buttons, *ranges, *tables))
