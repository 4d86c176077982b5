"""The models the simulated service knows: ids, input schemas, prices, kinds of result."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

Output = Literal["image", "video", "audio", "text"]
Catalogue = Path | str | Iterable[dict[str, Any]] | None

DEFAULT_PATH = Path(__file__).resolve().parents[2] / "generation" / "models.json"
"""The data file shipped beside the code that sells these models; read as data only."""

MUSIC_MODEL = "ai-music-api/generate"


@dataclass(frozen=True, slots=True)
class MediaInput:
    """One URL found in an input: where, what kind of media belongs there, how large it may be."""

    name: str
    url: str
    kind: str
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class Model:
    """One row of the catalogue."""

    id: str
    output: Output
    status: str
    schema: dict[str, Any]
    price: dict[str, Any]
    row: dict[str, Any]

    def media_inputs(self, given: dict[str, Any]) -> list[MediaInput]:
        """Every media URL of an input that fits the schema, nested ones included."""
        return list(_media_inputs(self.schema, given))


class ModelBook:
    """The models by id, from a path, a list of rows, or the shipped data file. Alias ids are unknown to the API.

    Raises: OSError or msgspec.DecodeError, when the file cannot be read.
    """

    def __init__(self, catalogue: Catalogue = None) -> None:
        if catalogue is None or isinstance(catalogue, (str, Path)):
            rows = _rows_at(Path(catalogue or DEFAULT_PATH))
        else:
            rows = list(catalogue)
        self._models = {row["id"]: _model(row) for row in rows if row.get("status", "live") != "alias"}

    def get(self, model_id: Any) -> Model | None:
        """The model, or None for anything that is no known id."""
        return self._models.get(model_id) if isinstance(model_id, str) else None

    def listed(self) -> list[Model]:
        """What the discovery calls show: everything not retired."""
        return [model for model in self._models.values() if model.status != "retired"]

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())


@cache
def _rows_at(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = msgspec.json.decode(path.read_bytes())
    return rows


def _model(row: dict[str, Any]) -> Model:
    output = cast("Output", row.get("output", "image"))
    return Model(row["id"], output, row.get("status", "live"), row["input"], row["price"], row)


def _media_inputs(schema: dict[str, Any], given: Any) -> Iterator[MediaInput]:
    if not isinstance(given, dict):
        return
    for name, part in schema.get("properties", {}).items():
        values = given.get(name)
        if not values:
            continue
        many = values if isinstance(values, list) else [values]
        if "x-media" in part:
            for url in many:
                yield MediaInput(name, url, part["x-media"], part.get("x-max-bytes"))
        elif part.get("items", {}).get("type") == "object":
            for each in many:
                yield from _media_inputs(part["items"], each)
