"""The engine that a measurement runs: from the store, built where it is not there yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines.build_report import BuildEvent
from engines.engine import prepare_engine
from engines.model import Model
from engines.profile import Profile, ShapeRange
from engines.settings import BuilderSettings, EngineSettings
from engines.store import EngineStore, StoredEngine
from engines.tensorrt_runner import TensorRTClassifier

__all__ = ["Subject", "stored_engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured.

    Attributes:
        model: The model.
        engine: Its engine, for batches of 1 to `batch_size` and tuned for that.
        precision: What the engine computes in.
        batch_size: Images of a full batch.
    """

    model: Model
    engine: StoredEngine
    precision: str
    batch_size: int

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.model.input_height, self.model.input_width

    def open(
        self, *, slots: int = 6, max_in_flight: int = 2, cuda_graph: bool = False
    ) -> TensorRTClassifier:
        """Open the engine; the caller closes it."""
        return TensorRTClassifier(
            self.engine.plan,
            batch_size=self.batch_size,
            image_size=self.image_size,
            precision=self.precision,
            slots=slots,
            max_in_flight=max_in_flight,
            cuda_graph=cuda_graph,
            engine_key=self.engine.key,
        )


@contextmanager
def stored_engine(
    model: Model, cache: Path, *, precision: str, batch_size: int
) -> Iterator[Subject]:
    """Lend a model's engine from the store in `cache`."""
    profile = Profile(
        batch=ShapeRange(1, batch_size, batch_size),
        height=ShapeRange.fixed(model.input_height),
        width=ShapeRange.fixed(model.input_width),
    )
    settings = EngineSettings(builder=BuilderSettings(precision=precision, profile=profile))
    with prepare_engine(model, settings, EngineStore(cache), _report) as engine:
        yield Subject(model=model, engine=engine, precision=precision, batch_size=batch_size)


def _report(event: BuildEvent) -> None:
    print(event.text, file=sys.stderr)
