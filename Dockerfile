# syntax=docker/dockerfile:1

# docker build -t nightshift .                        TensorRT, from NVIDIA's container
# docker build -t nightshift:cpu --target cpu .       ONNX Runtime, for machines without a GPU
# How to run them, and how to build on the 23.05 container: docs/docker.md

# Any container of NVIDIA's from 24.11 on, which bring Python 3.12 and their TensorRT for it.
# For builds that can be repeated, name it with its digest.
ARG BASE=nvcr.io/nvidia/tensorrt:26.08-py3
ARG CPU_BASE=python:3.12-slim


FROM ${CPU_BASE} AS wheel
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /source
COPY pyproject.toml README.md ./
COPY flows flows
COPY tasks tasks
COPY engines engines
COPY shards shards
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .


FROM ${CPU_BASE} AS cpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
COPY constraints.txt /tmp/
# An environment of its own, at the same place as in the GPU image.
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    python -m venv /opt/nightshift \
    && /opt/nightshift/bin/pip install --no-cache-dir -c /tmp/constraints.txt \
        "$(echo /wheel/*.whl)[s3]"

ENV PATH=/opt/nightshift/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    PREFECT_HOME=/tmp/prefect \
    XDG_CACHE_HOME=/cache
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp nightshift \
    && install -d -o nightshift -g nightshift -m 0700 /cache
USER 10001:10001
VOLUME /cache
WORKDIR /opt/nightshift
ENTRYPOINT ["python", "-m", "flows.classify_dir"]
CMD ["--help"]
LABEL org.opencontainers.image.title="nightshift" \
      org.opencontainers.image.description="Offline batch image classification on ONNX Runtime"


FROM ${BASE} AS gpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# PYTHON and TENSORRT_BINDINGS are for the 23.05 container, whose Python 3.10 is too old:
# see docs/docker.md. CUDA_PYTHON must serve the CUDA of the container and of the host's driver.
ARG PYTHON=/usr/bin/python3
ARG TENSORRT_BINDINGS=""
ARG CUDA_PYTHON="cuda-python>=12.9,<14"
COPY constraints.txt /tmp/
# uv, because NVIDIA's images pin pip's choices (PIP_CONSTRAINT). TensorRT's own module lies in the
# system's packages: the environment sees those, and what is installed into it comes first.
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    --mount=type=tmpfs,target=/root/.cache \
    python3 -m pip install --no-cache-dir --target /tmp/uv "uv==0.13.*" \
    && export UV_PYTHON_INSTALL_DIR=/opt/python \
    && /tmp/uv/bin/uv venv --system-site-packages --python "$PYTHON" /opt/nightshift \
    && /tmp/uv/bin/uv pip install --no-cache --compile-bytecode --python /opt/nightshift \
        -c /tmp/constraints.txt "$(echo /wheel/*.whl)[s3]" "$CUDA_PYTHON" $TENSORRT_BINDINGS \
    && if [ -n "$TENSORRT_BINDINGS" ]; then \
        ln -s tensorrt_bindings "$(echo /opt/nightshift/lib/python3.*/site-packages)/tensorrt"; \
    fi \
    && /opt/nightshift/bin/python -c 'import importlib.util as u; assert u.find_spec("tensorrt")' \
    && rm -rf /tmp/uv

ENV PATH=/opt/nightshift/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    PREFECT_HOME=/tmp/prefect \
    XDG_CACHE_HOME=/cache
# Not 1000: Ubuntu 24.04 gives that to its own user `ubuntu`.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp nightshift \
    && install -d -o nightshift -g nightshift -m 0700 /cache
USER 10001:10001
VOLUME /cache
WORKDIR /opt/nightshift
# Also replaces NVIDIA's entrypoint, whose banner would stand on stdout before the summary.
ENTRYPOINT ["python", "-m", "flows.classify_dir"]
CMD ["--help"]
LABEL org.opencontainers.image.title="nightshift" \
      org.opencontainers.image.description="Offline batch image classification on TensorRT"
