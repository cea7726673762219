"""What TensorRT made of a model, read from the files beside its engine; needs no GPU and no model.

nodes       the ONNX nodes that TensorRT was given, listed when the engine is built
tensors     dtype and memory format of a tensor, in the inspector's words and in ours
layers      the layers of the engine, from the engine inspector's JSON
steps       what the builder said of each fusion and removal, from the verbose build log
tuning      kernels tried and timings reused, from the same log
fates       which node went into which layer, and what became of the others
times       time of each layer, where the engine was run with a profiler
assembled   all of it for one engine of the store
shares      groups and shares that a page or a table shows
"""
