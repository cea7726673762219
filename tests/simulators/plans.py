"""Plans for tests of the runner, built on whichever TensorRT is installed."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["build_plan"]


def build_plan(
    graph: bytes,
    *,
    batch: tuple[int, int, int],
    size: tuple[int, int] | Sequence[tuple[int, int]],
) -> bytes:
    """Build a wrapped graph in fp32, without TF32, for min:opt:max batches.

    Args:
        graph: Serialized ONNX.
        batch: Smallest, tuned-for and largest batch.
        size: Height and width; three of them, rising, for a dynamic graph.
    """
    import tensorrt as trt

    flags = trt.NetworkDefinitionCreationFlag
    names = [name for name in ("STRONGLY_TYPED", "EXPLICIT_BATCH") if hasattr(flags, name)]
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(getattr(flags, names[0])))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806"):
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if hasattr(trt.TacticSource, "CUDNN"):
        # cuDNN and cuBLAS need not be there.
        kept = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
        config.set_tactic_sources(sum(1 << int(getattr(trt.TacticSource, name)) for name in kept))
    sizes = size if isinstance(size[0], tuple) else (size,) * 3
    profile = builder.create_optimization_profile()
    profile.set_shape(
        network.get_input(0).name,
        *((count, *hw, 3) for count, hw in zip(batch, sizes, strict=True)),
    )
    assert config.add_optimization_profile(profile) == 0
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return bytes(plan)
