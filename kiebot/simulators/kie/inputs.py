"""Files given as inputs: are they there, of the right kind, size and length?"""

from typing import Any

from kiebot.simulators.kie.catalogue import MediaInput, Model
from kiebot.simulators.kie.exchange import Answer
from kiebot.simulators.kie.failures import FAILURES, Failure
from kiebot.simulators.kie.files import FileStore, StoredFile
from kiebot.simulators.kie.noise import answer_of
from kiebot.simulators.kie.schema import OUT_OF_RANGE, mixes_frames_and_references
from kiebot.simulators.kie.switches import Switches
from kiebot.simulators.probe import seconds_of

FETCH_FAILURE = FAILURES["input_fetch"][0]
MIXTURE_FAILURE = FAILURES["input_semantics"][2]
AUDIO_LENGTH_TEXT = "Each reference audio must be between 2 and 30 seconds"


class InputCheck:
    """Looks at the media of an input before a task is made."""

    def __init__(self, files: FileStore, switches: Switches) -> None:
        self._files, self._switches = files, switches

    def check(self, model: Model, full: dict[str, Any]) -> tuple[Answer | None, Failure | None]:
        """A refusal for now, and the failure the task is bound to meet when it is accepted all the same."""
        failure = MIXTURE_FAILURE if mixes_frames_and_references(model.id, full) else None
        for media in model.media_inputs(full):
            if not media.url.startswith(("http://", "https://")):
                return answer_of(422, "url is wrong"), None
            if not self._switches.strict_inputs:
                continue
            refusal, fetch_failure = self._look_at(media)
            if refusal:
                return refusal, None
            failure = failure or fetch_failure
        return None, failure

    def _look_at(self, media: MediaInput) -> tuple[Answer | None, Failure | None]:
        file = self._files.at_url(media.url)
        if file is None:
            mode = self._switches.dead_input
            return (None, FETCH_FAILURE) if mode == "later" else (answer_of(int(mode)), None)
        if media.max_bytes is not None and len(file.data) > media.max_bytes:
            return answer_of(500, OUT_OF_RANGE), None
        if media.name == "reference_audio_urls" and not _is_fit_as_reference(file):
            return answer_of(422, AUDIO_LENGTH_TEXT), None
        # The one input that takes a clip as well as pictures, whatever its schema says.
        takes_both = media.name == "element_input_urls"
        fits = takes_both or file.content_type.startswith((media.kind, "application/octet-stream"))
        return None, None if fits else FETCH_FAILURE


def _is_fit_as_reference(file: StoredFile) -> bool:
    seconds = seconds_of(file.data)
    return seconds is None or 2.0 <= seconds <= 30.0
