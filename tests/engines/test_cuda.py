"""The owners of streams, events, graphs and memory, on the simulated runtime."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from engines.cuda import STICKY_CODES, Event, Graph, Stream, check
from engines.device import device_count, device_info, require_memory, select_device
from engines.errors import BackendUnavailableError, CudaError, DeviceMemoryError
from engines.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from engines.ownership import Drained, Resources, close_after
from tests.simulators.installed import simulated_gpu

OWNERS = [Stream, Event, lambda: DeviceBuffer(8), lambda: PinnedBuffer(8)]
NAMES = ["Stream", "Event", "DeviceBuffer", "PinnedBuffer"]


@pytest.fixture(autouse=True)
def gpu():
    with simulated_gpu("11.4.0") as machine:
        yield machine
        machine.verify()
        assert machine.leaks() == []


@pytest.mark.parametrize("make", OWNERS, ids=NAMES)
class TestEveryOwner:
    def test_gives_back_once(self, gpu, make):
        owner = make()
        assert not owner.closed
        assert len(gpu.leaks()) == 1
        owner.close()
        owner.close()
        assert owner.closed

    def test_gives_back_at_the_end_of_a_block(self, make):
        with make() as owner:
            assert owner.handle > 0

    def test_refuses_use_after_close(self, make):
        owner = make()
        owner.close()
        with pytest.raises(RuntimeError, match="is closed"):
            owner.handle  # noqa: B018

    def test_warns_and_frees_nothing_when_forgotten(self, gpu, make):
        held = [make()]
        with pytest.warns(ResourceWarning, match="was never closed"):
            held.clear()
        assert len(gpu.leaks()) == 1
        gpu.reset()

    def test_counts_as_given_back_where_cuda_reports_an_error(self, gpu, make):
        owner = make()
        gpu.fail_call(gpu.calls + 1, 719)
        with pytest.raises(CudaError, match="cudaErrorLaunchFailure"):
            owner.close()
        owner.close()
        assert owner.closed


class TestErrors:
    def test_name_call_code_and_text(self, gpu):
        gpu.fail_call(1, 1)
        with pytest.raises(
            CudaError, match=r"cudaMemGetInfo failed: cudaErrorInvalidValue \(1\)"
        ) as raised:
            check("cudaMemGetInfo")
        error = raised.value
        assert (error.call, error.code, error.name) == (
            "cudaMemGetInfo",
            1,
            "cudaErrorInvalidValue",
        )
        assert not error.sticky

    def test_want_of_memory_is_a_class_of_its_own(self, gpu):
        gpu.reset(total_bytes=100)
        with pytest.raises(DeviceMemoryError) as raised:
            DeviceBuffer(101)
        assert not raised.value.sticky

    @pytest.mark.parametrize("code", sorted(STICKY_CODES))
    def test_sticky_codes_are_sticky(self, gpu, code):
        gpu.fail_call(1, code)
        for _ in range(2):
            with pytest.raises(CudaError) as raised:
                check("cudaMemGetInfo")
            assert raised.value.sticky

    def test_a_missing_binding_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        with pytest.raises(BackendUnavailableError, match=r"cuda-python 12\.9 or 13"):
            check("cudaMemGetInfo")


class TestCopies:
    def test_carry_the_first_bytes_there_and_back(self):
        with Stream() as stream, DeviceBuffer(8) as device, PinnedBuffer(8) as host:
            numbers = host.array((4,), np.int16)
            numbers[:] = (1, -2, 3, -4)
            copy_to_device(device, host, 8, stream=stream)
            stream.synchronize()
            numbers[:] = 0
            copy_to_host(host, device, 6, stream=stream)
            stream.synchronize()
            assert numbers.tolist() == [1, -2, 3, 0]

    def test_are_not_done_before_somebody_waits(self):
        with (
            Stream() as stream,
            Event() as done,
            DeviceBuffer(1) as device,
            PinnedBuffer(1) as source,
            PinnedBuffer(1) as target,
        ):
            source.array((1,), np.uint8)[:] = 7
            copy_to_device(device, source, 1, stream=stream)
            copy_to_host(target, device, 1, stream=stream)
            done.record(stream=stream)
            view = target.array((1,), np.uint8)
            assert view[0] != 7
            done.synchronize()
            assert view[0] == 7

    @pytest.mark.parametrize("nbytes", [-1, 0, 5])
    def test_of_no_bytes_or_too_many_are_programming_errors(self, nbytes):
        with Stream() as stream, DeviceBuffer(4) as device, PinnedBuffer(8) as host:
            with pytest.raises(ValueError, match=f"{nbytes} B"):
                copy_to_device(device, host, nbytes, stream=stream)
            with pytest.raises(ValueError, match=f"{nbytes} B"):
                copy_to_host(host, device, nbytes, stream=stream)


class TestBuffers:
    @pytest.mark.parametrize("make", [DeviceBuffer, PinnedBuffer])
    def test_hold_at_least_one_byte(self, make):
        with pytest.raises(ValueError, match="at least one byte"):
            make(0)

    def test_views_are_no_larger_than_the_block(self):
        with PinnedBuffer(10) as host:
            assert host.array((2, 5), np.uint8).flags.writeable
            with pytest.raises(ValueError, match="exceeds"):
                host.array((3,), np.float32)

    def test_views_share_the_block(self):
        with PinnedBuffer(4) as host:
            host.array((4,), np.uint8)[:] = 255
            assert host.array((1,), np.int32)[0] == -1


class TestEvents:
    def test_tell_the_time_between_two_records(self):
        with Stream() as stream, Event(timing=True) as start, Event(timing=True) as end:
            start.record(stream=stream)
            end.record(stream=stream)
            stream.synchronize()
            assert end.milliseconds_since(start) > 0

    def test_without_timing_tell_none(self):
        with Stream() as stream, Event() as event:
            event.record(stream=stream)
            event.synchronize()
            with pytest.raises(CudaError):
                event.milliseconds_since(event)

    def test_that_were_never_recorded_hold_nobody_back(self):
        with Stream() as stream, Event(spin=True) as event:
            stream.wait_event(event)
            event.synchronize()
            stream.synchronize()


class TestGraphs:
    def test_repeat_what_was_captured(self):
        with (
            Stream() as stream,
            DeviceBuffer(1) as device,
            PinnedBuffer(1) as host,
            Graph(lambda: copy_to_device(device, host, 1, stream=stream), stream=stream) as graph,
        ):
            view = host.array((1,), np.uint8)
            for number in (3, 5):
                view[:] = number
                graph.launch(stream=stream)
                stream.synchronize()
                view[:] = 0
                copy_to_host(host, device, 1, stream=stream)
                stream.synchronize()
                assert view[0] == number

    def test_that_wait_cannot_be_captured_and_leave_the_stream_usable(self):
        with Stream() as stream:
            with pytest.raises(CudaError, match="cudaErrorStreamCaptureUnsupported"):
                Graph(stream.synchronize, stream=stream)
            stream.synchronize()

    def test_pass_on_the_error_of_the_work(self):
        def fail():
            raise ZeroDivisionError

        with Stream() as stream:
            with pytest.raises(ZeroDivisionError):
                Graph(fail, stream=stream)
            stream.synchronize()

    def test_leave_nothing_behind_whichever_call_fails(self, gpu):
        with Stream() as stream, DeviceBuffer(1) as device, PinnedBuffer(1) as host:
            kept = gpu.leaks()
            for number in range(1, 6):
                gpu.fail_call(gpu.calls + number, 1)
                with pytest.raises(CudaError):
                    Graph(lambda: copy_to_device(device, host, 1, stream=stream), stream=stream)
                assert gpu.leaks() == kept
                stream.synchronize()


class TestDevice:
    def test_is_described(self, gpu):
        gpu.reset(name="Some GPU", compute_capability=(8, 6), total_bytes=1000)
        with DeviceBuffer(100):
            info = device_info()
        assert (info.name, info.compute_capability) == ("Some GPU", "8.6")
        assert (info.total_bytes, info.free_bytes) == (1000, 900)
        assert (info.driver_version, info.runtime_version) == ("13.0", "13.0")

    def test_is_chosen_by_number(self, gpu):
        gpu.reset(device_count=2)
        assert device_count() == 2
        select_device(1)
        assert gpu.device == 1

    @pytest.mark.parametrize("device", [-1, 2])
    def test_that_does_not_exist_is_refused(self, gpu, device):
        gpu.reset(device_count=2)
        with pytest.raises(BackendUnavailableError, match=rf"GPU {device} .* shows 2"):
            select_device(device)

    @pytest.mark.parametrize("code", [35, 100])
    def test_without_driver_or_gpu_the_advice_is_to_use_the_cpu(self, gpu, code):
        gpu.fail_call(1, code)
        with pytest.raises(BackendUnavailableError, match="--backend onnxruntime") as raised:
            device_count()
        assert isinstance(raised.value.__cause__, CudaError)

    def test_memory_is_refused_with_both_figures(self, gpu):
        gpu.reset(total_bytes=3 * 2**30)
        require_memory(3 * 2**30, "a test")
        with pytest.raises(DeviceMemoryError, match=r"4\.000 GiB are needed, 3\.000 GiB of 3\.000"):
            require_memory(4 * 2**30, "a test")
        with pytest.raises(DeviceMemoryError, match=r"2\.000 GiB are needed, .* leaves 1\.000 GiB"):
            require_memory(2 * 2**30, "a test", limit_bytes=2**30)


class Recorder:
    def __init__(self, closed, name, error=None):
        self.closed, self.name, self.error = closed, name, error

    def close(self):
        self.closed.append(self.name)
        if self.error is not None:
            raise self.error


class TestOwnership:
    def test_the_youngest_is_closed_first_and_only_once(self):
        closed, owned = [], Resources()
        for name in "abc":
            owned.add(Recorder(closed, name))
        owned.close()
        owned.close()
        assert closed == ["c", "b", "a"]

    def test_all_are_closed_and_the_first_error_is_raised(self):
        closed, owned = [], Resources()
        errors = [OSError("a"), None, OSError("c")]
        for name, error in zip("abc", errors, strict=True):
            owned.add(Recorder(closed, name, error))
        with pytest.raises(OSError, match="c"):
            owned.close()
        assert closed == ["c", "b", "a"]

    def test_a_block_that_succeeds_keeps_and_one_that_fails_closes(self):
        closed = []
        with Resources() as owned:
            owned.add(Recorder(closed, "kept"))
        assert closed == []

        def fail():
            with Resources() as owned:
                owned.add(Recorder(closed, "closed", OSError("busy")))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as raised:
            fail()
        assert closed == ["closed"]
        assert raised.value.__notes__ == ["and while giving everything back: busy"]

    def test_closing_after_an_error_adds_nothing_where_all_is_well(self):
        error = ZeroDivisionError()
        close_after(error, Recorder([], "fine"))
        assert not hasattr(error, "__notes__")

    def test_draining_waits_and_waits_again_for_the_device(self, gpu):
        with Stream() as stream, DeviceBuffer(1) as device, PinnedBuffer(1) as host:
            copy_to_device(device, host, 1, stream=stream)
            gpu.fail_call(gpu.calls + 1, 1)
            with pytest.raises(CudaError, match="cudaStreamSynchronize"):
                Drained(stream).close()
            assert gpu.call_names[-1] == "cudaDeviceSynchronize"
