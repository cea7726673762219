from __future__ import annotations

import onnxruntime
import pytest

import engines.runtimes
from engines.runtimes import look_at_runtimes


def test_a_machine_without_a_gpu_is_no_fault():
    found = look_at_runtimes(0)
    assert found.onnxruntime == onnxruntime.__version__
    assert "CPUExecutionProvider" in found.providers
    assert (found.gpu, found.tensorrt) == (None, None)
    assert found.driver or found.gpu_error == ""


def test_a_driver_that_nothing_can_use_is_told(tmp_path, monkeypatch):
    (tmp_path / "version").touch()
    monkeypatch.setattr(engines.runtimes, "NVIDIA_DRIVER", tmp_path / "version")
    found = look_at_runtimes(0)
    assert found.driver
    assert "CUDA" in found.gpu_error


@pytest.mark.parametrize("version", ["8.6.1", "10.16.1", "11.4.0"])
def test_a_gpu_and_its_tensorrt_are_described(install_gpu, version):
    install_gpu(version)
    found = look_at_runtimes(0)
    assert found.tensorrt == version
    assert found.gpu is not None
    assert found.gpu.name
    assert (found.gpu_error, found.tensorrt_error) == ("", "")


def test_a_gpu_that_is_not_there_is_told(install_gpu):
    install_gpu()
    found = look_at_runtimes(7)
    assert found.gpu is None
    assert "GPU 7 was asked for" in found.gpu_error
