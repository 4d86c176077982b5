"""KieProvider: the Provider port over KIE's market API and its upload host."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import quote

from kiebot import __version__
from kiebot.errors import KiebotError, OutcomeUnknown, Permanent, Transient
from kiebot.generation.ports import Submission, TaskReport, Upload
from kiebot.kie import wire
from kiebot.kie.exchange import Answer, AnswerLost, NotSent, exchange, new_http_client
from kiebot.kie.multipart import multipart_body, unique_name
from kiebot.kie.refusals import create_error, query_error
from kiebot.observe.metrics import METRICS

API_URL = "https://api.kie.ai"
UPLOAD_URL = "https://kieai.redpandaai.co"
UPLOAD_PATH = "kiebot"
_NETWORK_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for a whole call. Create is long on purpose: a late success is cheaper than an unknown outcome."""

    create_s: float = 65.0
    query_s: float = 20.0
    upload_s: float = 180.0


class KieProvider:
    """Makes and watches KIE tasks. One instance serves a whole replica; close it at the end.

    Budgets are asked by the caller, before it writes its intent; every method here sends at once.
    Raises: ValueError, for a key that no header can carry.
    """

    def __init__(
        self,
        api_key: str,
        *,
        api_url: str = API_URL,
        upload_url: str = UPLOAD_URL,
        deadlines: Deadlines | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._key = api_key.strip()
        if not self._key.isascii() or not self._key.isprintable():
            raise ValueError("the KIE key holds characters that no HTTP header can carry")
        self._api_url = api_url.rstrip("/")
        self._upload_url = upload_url.rstrip("/")
        self._deadlines = deadlines or Deadlines()
        self._http = new_http_client(f"kiebot/{__version__}", ssl_context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(self, submission: Submission) -> str:
        """Create one task; see Provider.submit. The attempt id travels in a header, which KIE ignores and logs show."""
        body = wire.create_body(submission)
        url = f"{self._api_url}/api/v1/jobs/createTask"
        headers = {"Content-Type": "application/json", "X-Attempt-Id": str(submission.attempt_id)}
        try:
            with METRICS.kie_call("createTask"):
                answer = await self._call("POST", url, self._deadlines.create_s, headers, body)
        except NotSent as error:
            raise Transient(f"createTask was not sent: {error}", retry_after_s=_NETWORK_PAUSE_S) from None
        except AnswerLost as error:
            raise OutcomeUnknown(f"createTask: {error}") from None
        task_id, refusal = self._created(answer)
        if refusal is not None:
            raise refusal
        return task_id

    async def query(self, task_id: str) -> TaskReport:
        """Ask recordInfo; see Provider.query. Any trouble is Transient or a kind of it, unreadable answers too."""
        url = f"{self._api_url}/api/v1/jobs/recordInfo?taskId={quote(task_id, safe='')}"
        answer = await self._ask("recordInfo", "GET", url, self._deadlines.query_s)
        envelope = self._question_envelope("recordInfo", answer)
        report = wire.report_of(envelope, task_id, retry_after_s=answer.retry_after_s)
        return replace(report, detail=report.detail and self._scrubbed(report.detail))

    async def upload(self, upload: Upload) -> str:
        """Stream a file to the upload host under a name of its own; returns its address, alive for about a day.

        Raises: Transient, AccountStopped, Permanent; and whatever reading `upload.content` raises.
        """
        name = unique_name(upload)
        body = multipart_body(upload, {"uploadPath": UPLOAD_PATH, "fileName": name}, name)
        url = f"{self._upload_url}/api/file-stream-upload"
        async with aclosing(body.content) as content:
            answer = await self._ask("upload", "POST", url, self._deadlines.upload_s, body.headers, content)
        data = self._written("upload", answer)
        address = wire.web_address(data.get("downloadUrl")) if isinstance(data, Mapping) else None
        if address is None:
            raise Transient("upload: no address in the answer")
        return address

    async def credits_left(self) -> int:
        """The account's balance in millicredits; KIE's reading may lag by seconds."""
        url = f"{self._api_url}/api/v1/chat/credit"
        answer = await self._ask("credit", "GET", url, self._deadlines.query_s)
        envelope = self._question_envelope("credit", answer)
        if envelope.code != 200:
            raise query_error(envelope.code, envelope.text, retry_after_s=answer.retry_after_s)
        balance = wire.millicredits_of(envelope.data)
        if balance is None:
            raise Transient("credit: the balance is not a number")
        return balance

    async def signed_link(self, url: str) -> str:
        """Another address of a result, which whoever has it may open for 20 minutes. The file lives no longer for it.

        Raises: Transient, AccountStopped; Permanent, when `url` is not one of the account's results.
        """
        endpoint = f"{self._api_url}/api/v1/common/download-url"
        headers = {"Content-Type": "application/json"}
        answer = await self._ask(
            "download-url", "POST", endpoint, self._deadlines.query_s, headers, wire.link_body(url)
        )
        link = wire.web_address(self._written("download-url", answer))
        if link is None:
            raise Transient("download-url: no address in the answer")
        return link

    async def catalogue(self, path: str = "") -> object:
        """The data of one of the /models calls; `path` follows that word. The caller keeps to one call a second.

        Raises: Transient, RateLimited, AccountStopped; Permanent, for a model that KIE does not know.
        """
        url = f"{self._api_url}/api/v1/models{quote(path)}"
        answer = await self._ask("models", "GET", url, self._deadlines.query_s)
        envelope = self._question_envelope("models", answer)
        if envelope.code == 404:
            raise Permanent(f"models{path}: not known", code="unknown_model")
        if envelope.code != 200:
            raise query_error(envelope.code, envelope.text, retry_after_s=answer.retry_after_s)
        return envelope.data

    def _created(self, answer: Answer) -> tuple[str, KiebotError | None]:
        """The new task's id, or what its absence means. An envelope outranks the HTTP status: it is KIE speaking."""
        envelope = wire.read_envelope(answer.body)
        if envelope is None:
            return "", self._unreadable_create(answer)
        task_id = wire.created_task_id(envelope.data)
        is_success = envelope.code == 200 and 200 <= answer.status < 300
        if is_success and task_id is not None:
            return task_id, None
        if task_id is not None or envelope.code == 200:
            return "", OutcomeUnknown(f"createTask: HTTP {answer.status}, code {envelope.code}, ids do not fit")
        return "", create_error(envelope.code, self._scrubbed(envelope.text), retry_after_s=answer.retry_after_s)

    @staticmethod
    def _unreadable_create(answer: Answer) -> KiebotError:
        if 300 <= answer.status < 500:
            return create_error(answer.status, "", retry_after_s=answer.retry_after_s)
        return OutcomeUnknown(f"createTask: HTTP {answer.status} without a readable answer")

    def _question_envelope(self, what: str, answer: Answer) -> wire.Envelope:
        envelope = wire.read_envelope(answer.body)
        if envelope is None:
            raise self._unreadable(what, answer)
        if envelope.code == 200 and not 200 <= answer.status < 300:
            raise Transient(f"{what}: HTTP {answer.status} around a code 200")
        return replace(envelope, text=self._scrubbed(envelope.text))

    def _written(self, what: str, answer: Answer) -> object:
        """The data of a harmless write, one that may be repeated: what is unknown elsewhere is Transient here."""
        envelope = self._question_envelope(what, answer)
        if envelope.code == 200 and envelope.success is not False:
            return envelope.data
        if envelope.code == 200:
            raise Transient(f"{what}: refused without a reason")
        error = create_error(envelope.code, envelope.text, retry_after_s=answer.retry_after_s)
        raise Transient(str(error)) if isinstance(error, OutcomeUnknown) else error

    @staticmethod
    def _unreadable(what: str, answer: Answer) -> Transient:
        """No envelope: only a status is left. A page of a gateway says nothing of a task, so 404 is no verdict."""
        if answer.status in (401, 402, 429):
            return query_error(answer.status, "", retry_after_s=answer.retry_after_s)
        return Transient(f"{what}: HTTP {answer.status} without a readable answer", retry_after_s=_NETWORK_PAUSE_S)

    async def _ask(
        self,
        what: str,
        method: str,
        url: str,
        deadline_s: float,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
    ) -> Answer:
        try:
            with METRICS.kie_call(what):
                return await self._call(method, url, deadline_s, headers or {}, content)
        except (NotSent, AnswerLost) as error:
            raise Transient(f"{what}: {error}", retry_after_s=_NETWORK_PAUSE_S) from None

    async def _call(
        self,
        method: str,
        url: str,
        deadline_s: float,
        headers: Mapping[str, str],
        content: bytes | AsyncIterator[bytes] | None = None,
    ) -> Answer:
        """The only place where the key meets a request; every address here begins with one of the two base URLs."""
        authorized = {**headers, "Authorization": f"Bearer {self._key}"}
        return await exchange(self._http, method, url, deadline_s=deadline_s, headers=authorized, content=content)

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text
