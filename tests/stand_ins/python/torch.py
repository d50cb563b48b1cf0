"""A stand-in for PyTorch, as far as xtask/gpu/python/torch_layers.py calls it: nothing is computed, and every layer takes
one millisecond of a clock that only layers move."""

import contextlib
import types

__version__ = "stand-in"
EXECUTION_S = 1e-3
bfloat16, float16, float32 = 2, 2, 4
channels_last, contiguous_format = "channels_last", "contiguous_format"

_clock = 0.0
_capturing = None


class Tensor:
    def __init__(self, shape, size):
        self.shape, self.size = shape, size

    def to(self, memory_format):
        assert memory_format in (channels_last, contiguous_format) and len(self.shape) == 4
        return self

    def element_size(self):
        return self.size


def empty(shape, dtype):
    return Tensor(shape, dtype)


def randn(*shape, device, dtype):
    assert device == "cuda"
    return Tensor(shape, dtype)


def manual_seed(seed):
    assert isinstance(seed, int)


@contextlib.contextmanager
def no_grad():
    yield


def _execute():
    global _clock
    if _capturing is not None:
        _capturing.executions += 1
    else:
        _clock += EXECUTION_S


def _linear(x, w, bias):
    assert x.shape[-1] == w.shape[1] and (bias is None or bias.shape == w.shape[:1])
    _execute()
    return Tensor((*x.shape[:-1], w.shape[0]), x.size)


def _conv2d(x, w, bias, stride, padding, dilation, groups):
    assert x.shape[1] == w.shape[1] * groups and (bias is None or bias.shape == w.shape[:1])
    assert len(stride) == len(padding) == len(dilation) == 2
    _execute()
    return Tensor((x.shape[0], w.shape[0]), x.size)


class _Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream=None):
        self.time = _clock

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return (end.time - self.time) * 1e3


class _Stream:
    def wait_stream(self, other):
        assert isinstance(other, _Stream)

    def synchronize(self):
        pass


class _CUDAGraph:
    executions = 0

    def replay(self):
        global _clock
        assert self.executions, "nothing was captured"
        _clock += self.executions * EXECUTION_S


@contextlib.contextmanager
def _graph(graph):
    global _capturing
    _capturing = graph
    yield
    _capturing = None


nn = types.SimpleNamespace(functional=types.SimpleNamespace(linear=_linear, conv2d=_conv2d))
cuda = types.SimpleNamespace(
    Event=_Event, Stream=_Stream, CUDAGraph=_CUDAGraph, graph=_graph, stream=contextlib.nullcontext,
    current_stream=_Stream, synchronize=lambda: None, empty_cache=lambda: None,
    get_device_properties=lambda index: types.SimpleNamespace(L2_cache_size=10_000),
    get_device_name=lambda index: "stand-in",
)
backends = types.SimpleNamespace(
    cudnn=types.SimpleNamespace(version=lambda: 0), cuda=types.SimpleNamespace(matmul=types.SimpleNamespace()))
version = types.SimpleNamespace(cuda="stand-in")
