"""Sampler settings of a request, completed with the generator's defaults."""

from __future__ import annotations

from genaug.schema.generators import Generator
from genaug.schema.model import parse, refusal
from genaug.schema.requests import SamplerSettings
from genaug.schema.sampling import Sampler


def read_sampler(settings: SamplerSettings, record: Generator) -> Sampler | None:
    """Return the complete sampler settings of a request; None for a generator that does not sample.

    Args:
        settings: As requested; 0 and empty fields take the default of the generator's kind.
        record: The generator's record.

    Raises:
        InvalidArgument: reason BAD_SAMPLER or BAD_SCHEDULER; a value is out of range, or not available for this kind.
    """
    kind = record.spec.kind
    if kind.sampler is None:
        return None
    defaults = {**kind.sampler.json_value(), "image_size": record.image_size}
    given = {field: value for field, value in settings.json_value().items() if value}
    sampler = parse(Sampler, {**defaults, **given}, path="sampler", reason="BAD_SAMPLER")
    problems = list(sampler.problems())
    if not kind.prompted:
        fixed = {"negative_prompt": "", "strength": 0.0, "image_size": record.image_size}
        unavailable = f"is not available for {record.name}, a generator of kind {record.spec.kind_name}"
        problems += [(field, unavailable) for field, value in fixed.items() if getattr(sampler, field) != value]
    if problems:
        reason = "BAD_SCHEDULER" if problems[0][0] == "scheduler" else "BAD_SAMPLER"
        raise refusal(((f"sampler.{field}", text) for field, text in problems), reason=reason)
    return sampler
