"""A synthetic task with real, not saturated accuracy: handwritten digits on cluttered photos.

    python -m benchmarks.clutter.sources SOURCES.npz         digits and photographs in one file
    python -m benchmarks.clutter.images SOURCES.npz FOLDER   held-out and calibration JPEGs
    python -m benchmarks.clutter.train SOURCES.npz FOLDER    a ResNet-18 of it, as an ONNX folder

Nothing of it is downloaded: the digits are scikit-learn's (UCI's 8x8 scans of handwriting), the
photographs those that scikit-learn and scikit-image ship. Held-out images use digits and
photographs that training never saw.
"""
