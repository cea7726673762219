"""Where a batch is on its way: host slots that decoders fill, lanes that the device works in."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from engines.classifier import Predictions
from engines.cuda import Event, Graph, Stream
from engines.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from engines.ownership import Drained, Resources
from engines.tensorrt_engine import BatchLayout, Context, Engine
from engines.wrap import EMBEDDING, IMAGES, LABEL_IDS, LOGITS, SCORES

__all__ = ["HostSlot", "Lane", "in_order"]


class HostSlot:
    """Page-locked memory of one batch: what decoders write and where results arrive.

    Args:
        layout: Tensors of a full batch.
        fetched: Names of the outputs to download; the others stay on the device.

    Attributes:
        count: Images of the batch that was submitted last.
        finished: Reached when the results of that batch have arrived.
    """

    def __init__(self, layout: BatchLayout, fetched: Collection[str]) -> None:
        self.count = 0
        self._fetched = tuple(output for output in layout.outputs if output.name in fetched)
        with Resources() as owned:
            size = layout.batch_size
            self._images = owned.add(PinnedBuffer(size * layout.image_bytes))
            self._results = {
                output.name: owned.add(PinnedBuffer(size * output.row_bytes))
                for output in self._fetched
            }
            self.finished = owned.add(Event())
        self._owned = owned
        self._images_view = self._images.array(layout.input_shape(size), np.uint8)
        self._result_views = {
            output.name: self._results[output.name].array((size, output.columns), output.dtype)
            for output in self._fetched
        }

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 [batch_size, height, width, 3]; must not be touched once its classifier is closed.

        Raises:
            RuntimeError: It is closed already.
        """
        if self._images.closed:
            raise RuntimeError("this slot's classifier is closed")
        return self._images_view

    def upload(self, lane: Lane, rows: int, *, stream: Stream) -> None:
        """Queue the copy of the first rows into the lane."""
        nbytes = rows * lane.layout.image_bytes
        copy_to_device(lane.inputs, self._images, nbytes, stream=stream)

    def download(self, lane: Lane, *, stream: Stream) -> None:
        """Queue the copies of the lane's results, as many rows as the batch has images."""
        for output in self._fetched:
            nbytes = self.count * output.row_bytes
            source = lane.outputs[output.name]
            copy_to_host(self._results[output.name], source, nbytes, stream=stream)

    def predictions(self) -> Predictions:
        """Copy the results out; `finished` must have been reached."""
        rows = {name: view[: self.count] for name, view in self._result_views.items()}
        label_ids, scores = in_order(
            rows[LABEL_IDS].astype(np.int32), rows[SCORES].astype(np.float32)
        )
        logits, embedding = (
            rows[name].astype(np.float32) if name in rows else None for name in (LOGITS, EMBEDDING)
        )
        return Predictions(label_ids=label_ids, scores=scores, logits=logits, embedding=embedding)

    def leave(self, name: str) -> None:
        """Download this output no more; nothing may be in flight."""
        self._fetched = tuple(output for output in self._fetched if output.name != name)
        self._result_views.pop(name, None)

    def close(self) -> None:
        """Give the memory back; nothing may be in flight. Idempotent."""
        self._owned.close()


class Lane:
    """Device memory of one batch in flight, and the events that hand it from stream to stream.

    Attributes:
        layout: Tensors of a full batch.
        inputs: Device memory of `images`.
        outputs: Device memory of each output, fetched or not: TensorRT writes them all.
        uploaded: Reached when the images are there.
        computed: Reached when the images were read and the results are there.
        downloaded: Reached when the results were taken.
        graph: The full batch as a CUDA graph, where it was captured.
    """

    def __init__(self, layout: BatchLayout) -> None:
        self.layout = layout
        self.graph: Graph | None = None
        with Resources() as owned:
            self.inputs = owned.add(DeviceBuffer(layout.batch_size * layout.image_bytes))
            self.outputs = {
                output.name: owned.add(DeviceBuffer(layout.batch_size * output.row_bytes))
                for output in layout.outputs
            }
            self.uploaded = owned.add(Event())
            self.computed = owned.add(Event())
            self.downloaded = owned.add(Event())
        self._owned = owned

    @property
    def addresses(self) -> dict[str, int]:
        """Device address of every tensor."""
        return {
            IMAGES: self.inputs.handle,
            **{name: buffer.handle for name, buffer in self.outputs.items()},
        }

    def run(self, context: Context, rows: int, *, stream: Stream) -> None:
        """Queue the network for the first rows: the graph for a full batch, if there is one."""
        if self.graph is not None and rows == self.layout.batch_size:
            self.graph.launch(stream=stream)
        else:
            self._enqueue(context, rows, stream)

    def capture(self, engine: Engine, *, stream: Stream) -> None:
        """Capture the full batch as a graph; the stream is idle afterwards.

        The graph gets a context of its own, which nobody changes after the capture: a graph
        refers to the state of the context it was captured from (developer guide, 'CUDA Graphs').

        Raises:
            EngineError: It cannot be captured; the lane works as before.
        """
        rows = self.layout.batch_size
        with Resources() as owned:
            context = owned.add(engine.new_context(stream=stream))
            owned.add(Drained(stream))
            # The first run with new shapes does work that a capture must not hold.
            self._enqueue(context, rows, stream)
            stream.synchronize()
            graph = owned.add(Graph(lambda: context.enqueue(stream=stream), stream=stream))
        self._owned.add(owned)
        self.graph = graph

    def close(self) -> None:
        """Give everything back; nothing may be in flight. Idempotent."""
        self._owned.close()

    def _enqueue(self, context: Context, rows: int, stream: Stream) -> None:
        context.set_images_shape(self.layout.input_shape(rows))
        context.set_addresses(self.addresses)
        context.enqueue(stream=stream)


def in_order(
    label_ids: NDArray[np.int32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Put equal scores of a row in ascending order of label_id, as `Predictions` promises.

    TensorRT's TopK sorts by score and promises no order among equals. Which of several equals
    make it into the k columns, when not all do, is TensorRT's choice and cannot be mended here.

    Args:
        label_ids: int32 [count, k]; may be changed in place.
        scores: float32 [count, k], descending; may be changed in place.

    Returns:
        The same arrays. A row with a NaN has it last.
    """
    # Not "equal": a row with a NaN shall be touched too.
    touched = ~(scores[:, :-1] > scores[:, 1:]).all(axis=1)
    if touched.any():
        order = np.lexsort((label_ids[touched], -scores[touched]))
        label_ids[touched] = np.take_along_axis(label_ids[touched], order, axis=1)
        scores[touched] = np.take_along_axis(scores[touched], order, axis=1)
    return label_ids, scores
