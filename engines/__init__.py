"""ONNX model in, scores out: preprocessing, precision, engines and the streaming core."""

import os

# From 1.32 on, importing ONNX Runtime writes a device id into the home directory and uploads what
# runs where. Nobody asked for that; this must be set before the first import, so it stands here.
# (putenv, not os.environ: the library reads the environment of the process; children inherit it.)
os.putenv("ORT_DISABLE_TELEMETRY", "1")
