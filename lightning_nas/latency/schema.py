"""Strict schemas of untrusted files, with one-line errors."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lightning_nas.errors import LatencyTableError, shown


class Strict(BaseModel):
    """A frozen model without type conversion, unknown keys, NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


Model = TypeVar("Model", bound=Strict)


def fit(model: type[Model], content: Any, *, where: str) -> Model:
    """Validate ``content`` as a ``model``; ``where`` opens the error and must be safe to print.

    Raises:
        LatencyTableError: one line with the first key that does not fit and the value received.

    >>> class Point(Strict):
    ...     x: float
    >>> fit(Point, {"x": "1"}, where="point.json")
    Traceback (most recent call last):
        ...
    lightning_nas.errors.LatencyTableError: point.json: x: input should be a valid number, got '1'
    """
    try:
        return model.model_validate(content)
    except ValidationError as reason:
        first = reason.errors(include_url=False, include_context=False)[0]
        place = shown(".".join(str(part) for part in first["loc"]))[1:-1]
        said = first["msg"].removeprefix("Value error, ")
        problem = ascii(said[:1].lower() + said[1:160])[1:-1]
        lead = f"{where}: {place}: " if place else f"{where}: "
        came = "" if first["type"] in ("missing", "value_error") else f", got {shown(first['input'])}"
        raise LatencyTableError(f"{lead}{problem}{came}") from None
