"""Times conv and linear layers in turns with PyTorch, in one call on one GPU.

torch_layers.py PROGRAM [--precision P] [--layout L] [--batch N] [--turns N] [--samples N] [--bound X] NETWORK...
torch_layers.py --self-test     tries what needs no torch

PROGRAM is gpu_layer_times. Each layer is prepared on both sides, then timed in turns: some tenths of a second of us,
some of PyTorch, and so on, so that clocks and temperature meet both. Both sides replay CUDA graphs of about 20 ms;
PyTorch's are timed by events around each replay, with cuDNN's benchmark mode and channels_last for nhwc. Both sides
go through several copies of input, weights and output, which together exceed the L2 cache (--cache hot: one copy).
Prints JSON; exit code 1 where the geometric mean of our time over theirs is beyond the bound, or a layer failed.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys

BOUND = 1.05
GRAPH_S = 0.02
MOST_IN_GRAPH = 4000


class Engine:
    """Our program, asked over pipes."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the program stopped at: {' '.join(map(str, words))}")
        answer = json.loads(answer)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        return self.process.wait(60)


def output_size(layer):
    """Height and width of a convolution's output."""
    sizes = []
    for axis in (0, 1):
        top, bottom = layer["padding"][axis], layer["padding"][axis + 2]
        taps = layer["dilation"][axis] * (layer["kernel"][axis] - 1) + 1
        sizes.append((layer["input"][axis + 1] + top + bottom - taps) // layer["stride"][axis] + 1)
    return sizes


def elements(layer, batch):
    """Numbers that one execution touches: input, weights, output."""
    read = batch * math.prod(layer["input"])
    if layer["kind"] == "linear":
        return read + layer["out_features"] * layer["input"][-1] + batch * layer["out_features"]
    weights = layer["out_channels"] * layer["input"][0] // layer["groups"] * math.prod(layer["kernel"])
    return read + weights + batch * layer["out_channels"] * math.prod(output_size(layer))


def copies(bytes_touched, l2_bytes):
    """So many copies that a replay finds nothing of the last round in the cache: twice its size, and one more."""
    return max(2, math.ceil(2 * l2_bytes / bytes_touched) + 1) if l2_bytes else 1


def summary(rows):
    """Geometric means of our time over theirs."""
    done = [row for row in rows if "ratio" in row]

    def mean(chosen):
        return math.exp(statistics.fmean(math.log(row["ratio"]) for row in chosen)) if chosen else None

    by_kind = {kind: mean([row for row in done if row["layer"]["kind"] == kind]) for kind in ("conv", "linear")}
    return {"layers": len(rows), "failed": len(rows) - len(done), "geometric_mean": mean(done), **by_kind}


class Peer:
    """One layer in PyTorch, as a CUDA graph of many executions."""

    def __init__(self, torch, layer, options, l2_bytes):
        self.torch = torch
        dtype = {"bf16": torch.bfloat16, "f16": torch.float16}.get(options.precision, torch.float32)
        layout = torch.channels_last if options.layout == "nhwc" else torch.contiguous_format
        size = torch.empty((), dtype=dtype).element_size()
        number = copies(elements(layer, options.batch) * size, l2_bytes)
        make = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
        if layer["kind"] == "linear":
            width, out = layer["input"][-1], layer["out_features"]
            sets = [(make(options.batch, *layer["input"]), make(out, width)) for _ in range(number)]
            bias = make(out) if layer["bias"] else None
            self.execute = lambda x, w: torch.nn.functional.linear(x, w, bias)
        else:
            channels, out = layer["input"][0], layer["out_channels"]
            top, left, bottom, right = layer["padding"]
            if (top, left) != (bottom, right):
                raise RuntimeError("padding that differs between the sides is not timed")
            shape = (out, channels // layer["groups"], *layer["kernel"])
            sets = [(make(options.batch, *layer["input"]).to(memory_format=layout),
                     make(*shape).to(memory_format=layout)) for _ in range(number)]
            bias = make(out) if layer["bias"] else None
            self.execute = lambda x, w: torch.nn.functional.conv2d(
                x, w, bias, layer["stride"], (top, left), layer["dilation"], layer["groups"])
        self.sets, self.copies = sets, number
        self.graph, self.executions = self.capture()

    def capture(self):
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            # Benchmark mode looks for its algorithm in the first executions.
            for _ in range(3):
                for inputs in self.sets:
                    self.execute(*inputs)
            stream.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(stream)
            for inputs in self.sets:
                self.execute(*inputs)
            end.record(stream)
            end.synchronize()
            once = begin.elapsed_time(end) / 1e3
        torch.cuda.current_stream().wait_stream(stream)
        # Larger graphs take long to make, and the shortest layers need no 20 ms for a stable mean.
        rounds = max(1, min(round(GRAPH_S / once), MOST_IN_GRAPH // len(self.sets)))
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            for _ in range(rounds):
                # Results of a round lie side by side, as ours do: one block for all would stay in the cache.
                results = [self.execute(*inputs) for inputs in self.sets]
                del results
        return graph, rounds * len(self.sets)

    def time(self, samples):
        """Seconds of one execution; the first replay is not counted."""
        torch, times = self.torch, []
        for _ in range(samples + 1):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begin.record()
            self.graph.replay()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3 / self.executions)
        return times[1:]


def row(torch, engine, index, layer, options, l2_bytes):
    """Both sides of one layer."""
    prepared = engine.ask("prepare", index, options.precision, options.layout)
    peer = Peer(torch, layer, options, l2_bytes)
    ours, theirs = [], []
    for turn in range(options.turns):
        # Who is first changes, so that a drift meets both alike.
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            if side == 0:
                ours += engine.ask("time", options.samples)
            else:
                theirs += peer.time(options.samples)
    ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
    return {
        "layer": layer, **prepared, "seconds": ours_s, "torch_seconds": theirs_s, "ratio": ours_s / theirs_s,
        "spread": [spread(ours), spread(theirs)], "torch_copies": peer.copies,
        "torch_executions_in_graph": peer.executions,
    }


def spread(times):
    """Relative distance of the quartiles: what a difference between the sides has to be held against."""
    if len(times) < 4:
        return None
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / middle


def compare(options):
    import torch

    torch.backends.cudnn.benchmark = True
    tf32 = options.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    # Sums in f32 on both sides.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.manual_seed(1)
    l2_bytes = 0 if options.cache == "hot" else torch.cuda.get_device_properties(0).L2_cache_size
    command = [options.program, "--device", options.device, "--batch", options.batch, *options.networks]
    engine = Engine(list(map(str, command)))
    known = engine.ask("list")
    rows = []
    for index, layer in enumerate(known["layers"]):
        try:
            rows.append(row(torch, engine, index, layer, options, l2_bytes))
            text = f"{rows[-1]['seconds'] * 1e6:9.1f} us {rows[-1]['torch_seconds'] * 1e6:9.1f} us {rows[-1]['ratio']:6.3f}"
        except RuntimeError as error:
            rows.append({"layer": layer, "error": str(error)})
            text = f"FAILED: {error}"
        print(f"{layer['signature']:60} {text}", file=sys.stderr, flush=True)
        engine.ask("forget")
        torch.cuda.empty_cache()
    engine.close()
    return {
        "schema": "layerjoule.gpu-torch/1", "device": torch.cuda.get_device_name(0), "torch": torch.__version__,
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "engine": known["engine"],
        "emulated": known["emulated"],
        "precision": options.precision, "layout": options.layout, "batch": options.batch, "cache": options.cache,
        "turns": options.turns, "samples": options.samples, "bound": options.bound, **summary(rows), "rows": rows,
    }


def self_test():
    conv = {"kind": "conv", "input": [3, 224, 224], "out_channels": 64, "kernel": [7, 7], "stride": [2, 2],
            "padding": [3, 3, 3, 3], "dilation": [1, 1], "groups": 1}
    assert output_size(conv) == [112, 112]
    assert elements(conv, 2) == 2 * 3 * 224 * 224 + 64 * 3 * 49 + 2 * 64 * 112 * 112
    linear = {"kind": "linear", "input": [2048], "out_features": 1000}
    assert elements(linear, 64) == 64 * 2048 + 2048 * 1000 + 64 * 1000
    # 60 MB of cache, 10 MB touched: 12 copies are twice the cache.
    assert copies(10_000_000, 60_000_000) == 13
    assert copies(500_000_000, 60_000_000) == 2 and copies(1, 0) == 1
    rows = [{"layer": {"kind": "conv"}, "ratio": 0.5}, {"layer": {"kind": "linear"}, "ratio": 2.0},
            {"layer": {"kind": "conv"}, "error": "e"}]
    found = summary(rows)
    assert abs(found["geometric_mean"] - 1.0) < 1e-12 and found["failed"] == 1 and found["conv"] == 0.5, found
    assert summary([])["geometric_mean"] is None
    assert spread([1.0, 1.0, 1.0, 1.0]) == 0.0
    print("self-test: ok")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--device", default="cuda", help="of the program")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--layout", default="nhwc")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--samples", type=int, default=7, help="of each side in a turn")
    parser.add_argument("--cache", choices=("cold", "hot"), default="cold")
    parser.add_argument("--bound", type=float, default=BOUND)
    options = parser.parse_args()
    found = compare(options)
    print(json.dumps(found, indent=1))
    faults = []
    if found["failed"]:
        faults.append(f"{found['failed']} of {found['layers']} layers failed")
    if found["geometric_mean"] is not None and found["geometric_mean"] > options.bound:
        faults.append(f"geometric mean {found['geometric_mean']:.3f}, bound {options.bound}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
