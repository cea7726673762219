"""Sources that say part of the preprocessing: what they state, and what is left to ask.

An ONNX file's `Image.*` metadata know the channels and not the resize; Triton's config.pbtxt knows
the size and nothing of the pixels. Neither is a recipe, and neither may be ignored. Together with
each other and with the user's flags they may say everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engines.preprocess.overrides import PreprocessOverrides, apply_overrides, flag, flags_recipe
from engines.preprocess.recipe import Recipe, Size
from engines.preprocess.spec import PreprocessSpec

__all__ = ["Statement", "complete", "merge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one source says, in the terms of the flags that would say the same.

    Attributes:
        origin: The source in words; empty for one that says nothing.
        values: What it says of the pixels; never a size.
        sources: Name of every field in `values` to the key that stated it.
        asks: Fields that somebody has to state for such a model, though others do without.
        sizes: Input sizes that it names, preferred first.
        size_source: Where `sizes` came from, in words.
    """

    origin: str = ""
    values: PreprocessOverrides = field(default_factory=PreprocessOverrides)
    sources: Mapping[str, str] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()
    size_source: str = ""

    def in_words(self) -> str:
        """What is stated, for a message, as `--pixel-range 0-255 (Image.NominalPixelRange)`."""
        flags = [
            f"{flag(name)} {getattr(self.values, name)} ({self.sources[name]})"
            for name in self.values.given
        ]
        sizes = " or ".join("x".join(map(str, size)) for size in self.sizes)
        return ", ".join(flags + ([f"the input size {sizes} ({self.size_source})"] * bool(sizes)))


def merge(statements: Sequence[Statement]) -> Statement:
    """One statement of several; where two say the same field, the earlier counts."""
    merged = Statement()
    for later in statements:
        sized = merged if merged.sizes else later
        merged = Statement(
            origin=" and ".join(dict.fromkeys(filter(None, (merged.origin, later.origin)))),
            values=_over(later.values, merged.values),
            sources={**later.sources, **merged.sources},
            asks=(*merged.asks, *later.asks),
            sizes=sized.sizes,
            size_source=sized.size_source,
        )
    return merged


def complete(statement: Statement, overrides: PreprocessOverrides) -> Recipe | list[str]:
    """The recipe that a statement makes with the user's flags, or the flags that are missing.

    Args:
        statement: What files and metadata say.
        overrides: The user's flags, which win. Only what the statement says is in the recipe's
            specification; the flags' own values are applied to it afterwards, as to any other.
    """
    together = _over(statement.values, overrides)
    asked = [flag(name) for name in statement.asks if name not in together.given]
    flags = flags_recipe(together)
    if isinstance(flags, list):
        return flags + asked
    if asked:
        return asked
    base = flags.build

    def build(size: Size) -> PreprocessSpec:
        return apply_overrides(base(size), statement.values)[0]

    sources = {**flags.sources, **statement.sources}
    if "crop_mode" in sources:
        sources["resize"] = sources["crop"] = sources.pop("crop_mode")
    return Recipe(
        build=build,
        origin=statement.origin or flags.origin,
        sizes=statement.sizes,
        size_source=statement.size_source,
        sources=sources,
    )


def _over(under: PreprocessOverrides, winner: PreprocessOverrides) -> PreprocessOverrides:
    values: dict[str, Any] = {name: getattr(winner, name) for name in winner.given}
    return replace(under, **values)
