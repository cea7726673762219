"""int8 by explicit Q/DQ pairs: ranges measured on the user's images, pairs placed by backend."""

from engines.quantize.calibration import Calibration

__all__ = ["Calibration"]
