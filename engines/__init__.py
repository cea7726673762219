"""ONNX model in, scores out: preprocessing, precision, engines and the streaming core."""
