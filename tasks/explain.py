"""What a model's pixels, labels and scores are, and who said so, for people to check."""

from __future__ import annotations

from dataclasses import dataclass

from engines.model import Model

__all__ = ["Explained", "explain", "explained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One decision.

    Attributes:
        name: Of the setting.
        value: What it came to, in words.
        source: Who said so.
    """

    name: str
    value: str
    source: str


def explained(model: Model) -> tuple[Explained, ...]:
    """Every decision, in the order in which an image meets them."""
    return tuple(
        Explained(name=name, value=value, source=model.sources[name])
        for name, value in _values(model).items()
    )


def explain(model: Model) -> str:
    """One line for each decision: its name, its value, and where it came from."""
    settings = explained(model)
    width = max(len(setting.value) for setting in settings)
    lines = [f"  {s.name:<13} {s.value:<{width}}  {s.source}" for s in settings]
    return "\n".join([f"model {model.model_id}, and where each setting comes from:", *lines])


def _values(model: Model) -> dict[str, str]:
    spec, host = model.spec, model.spec.host
    resize = "none" if host.resize == "none" else f"{host.resize} {_size(host.resize_size)}"
    if host.resize in ("shortest", "longest"):
        resize = f"{host.resize} edge to {host.resize_height}"
    embedding = model.embedding
    return {
        "input_size": _size((host.height, host.width)),
        "resize": resize,
        "interpolation": host.interpolation,
        "crop": host.crop,
        "pixel_range": f"{spec.offset:.3g} to {spec.scale * 255 + spec.offset:.3g}",
        "mean": " ".join(f"{value:.4g}" for value in spec.mean),
        "std": " ".join(f"{value:.4g}" for value in spec.std) + (" twice" * spec.std_twice),
        "channel_order": spec.channel_order,
        "alpha": host.alpha,
        "labels": f"{len(model.labels)}: {_some(model.labels)}",
        "output": model.output_name,
        "activation": model.activation,
        "batch": "any",
        **({"embedding": f"{embedding.tensor}, {embedding.width} values"} if embedding else {}),
    }


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _some(labels: tuple[str, ...]) -> str:
    shown = ", ".join(label[:20] for label in labels[:3])
    return shown + (", ..." if len(labels) > 3 else "")
