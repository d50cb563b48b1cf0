"""Times the CPU engine and onnxruntime in turns and prints a Markdown table.

Usage: peers.py ENGINE NETWORKS [--seconds S] [--rounds N] [--only TEXT]

ENGINE is the binary of benches/peers.rs, NETWORKS the folder of network definitions. Every case runs in rounds:
some seconds of us, some of the peer, and so on, so that what else the machine does meets both. Both sides use
two threads and random weights. Exit code 1 if a bound is missed.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

# Channels, height, width, output channels, kernel, stride, padding.
CONVOLUTIONS = [
    ("64x56x56 k3 -> 64", (64, 56, 56, 64, 3, 1, 1)),
    ("256x14x14 k3 -> 256", (256, 14, 14, 256, 3, 1, 1)),
    ("512x7x7 k3 -> 512", (512, 7, 7, 512, 3, 1, 1)),
    ("3x224x224 k7 s2 -> 64", (3, 224, 224, 64, 7, 2, 3)),
    ("256x56x56 k1 -> 64", (256, 56, 56, 64, 1, 1, 0)),
    ("1024x14x14 k1 -> 256", (1024, 14, 14, 256, 1, 1, 0)),
]
NETWORKS = ["resnet50", "vgg16", "mobilenet_v2", "densenet121"]
BATCHES = [1, 8]
THREADS = 2
GEOMETRIC_MEAN_BOUND = 1.2
NETWORK_BOUND = 1.5


class Engine:
    """The bench binary, asked over pipes."""

    def __init__(self, path):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen([path, str(THREADS)], **pipes)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the engine stopped at: {' '.join(str(word) for word in words)}")
        return json.loads(answer)


def random_tensor(rng, name, shape):
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    values = rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2.0 / fan_in))
    return numpy_helper.from_array(values if len(shape) > 1 else np.abs(values) + np.float32(0.5), name)


def peer(description, batch, rng):
    """An onnxruntime session for a described network, with its input and result bound."""
    nodes, stored = [], []
    for layer in description["layers"]:
        name, attributes = layer["name"], dict(layer["attributes"])
        inputs = list(layer["inputs"])
        for place, shape in enumerate(layer["stored"]):
            stored.append(random_tensor(rng, f"{name}.{place}", shape))
            inputs.append(f"{name}.{place}")
        for place, limit in enumerate(attributes.pop("limits", [])):
            stored.append(numpy_helper.from_array(np.float32(limit), f"{name}.limit{place}"))
            inputs.append(f"{name}.limit{place}")
        nodes.append(helper.make_node(layer["operator"], inputs, [name], name=name, **attributes))
    shape = [batch, *description["input"]]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(description["layers"][-1]["name"], TensorProto.FLOAT, None)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # Bound once, so that a run neither checks arguments nor allocates its result; ours does not either.
    values = rng.standard_normal(shape, dtype=np.float32)
    [result] = session.run(None, {"input": values})
    binding = session.io_binding()
    binding.bind_cpu_input("input", values)
    name = session.get_outputs()[0].name
    binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(np.zeros_like(result)))
    return session, binding


def conv_description(c, h, w, k, r, stride, padding):
    attributes = {"kernel_shape": [r, r], "strides": [stride, stride], "pads": [padding] * 4}
    layer = {"name": "conv", "operator": "Conv", "attributes": attributes}
    return {"input": [c, h, w], "layers": [layer | {"inputs": ["input"], "stored": [[k, c, r, r]]}]}


def run_peer(session, binding, seconds):
    times, begin = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def compare(engine, indices, session, binding, options):
    """Median milliseconds of each of our plans and of the peer, over all rounds."""
    ours, theirs = [[] for _ in indices], []
    for number in range(options.rounds + 1):
        for times, index in zip(ours, indices):
            measured = engine.ask("run", index, options.seconds)
            times.extend(measured if number else [])
        measured = run_peer(session, binding, options.seconds)
        theirs.extend(measured if number else [])
    return [statistics.median(times) for times in ours], statistics.median(theirs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("networks")
    parser.add_argument("--seconds", type=float, default=0.4, help="of each side in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    engine, rng = Engine(options.engine), np.random.default_rng(1)
    missed = []

    print(f"Median ms of {options.rounds} rounds in turns, {THREADS} threads; onnxruntime {ort.__version__}.\n")
    print("| convolution | batch | layerjoule | onnxruntime | ratio |\n|---|---|---|---|---|", flush=True)
    ratios = []
    for batch in BATCHES:
        for name, sizes in CONVOLUTIONS:
            if options.only not in f"{name} n{batch}":
                continue
            index = engine.ask("conv", batch, *sizes)
            session, binding = peer(conv_description(*sizes), batch, rng)
            [ours], theirs = compare(engine, [index], session, binding, options)
            ratios.append(ours / theirs)
            print(f"| {name} | {batch} | {ours:.3f} | {theirs:.3f} | {ratios[-1]:.2f} |", flush=True)
    if ratios:
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
        print(f"| geometric mean | | | | **{mean:.2f}** |", flush=True)
        if mean > GEOMETRIC_MEAN_BOUND:
            missed.append(f"geometric mean {mean:.2f}, bound {GEOMETRIC_MEAN_BOUND}")

    print("\n`fused`: batch norm, sum and activation in the convolution's step, as onnxruntime does by default.\n")
    print("| network | batch | layerjoule | layerjoule, fused | onnxruntime | ratio | ratio, fused |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in NETWORKS:
        file = f"{options.networks}/{name}.toml"
        for batch in BATCHES:
            if options.only not in f"{name} n{batch}":
                continue
            indices = [engine.ask("network", file, batch, plan) for plan in ("plain", "fused")]
            session, binding = peer(engine.ask("describe", file), batch, rng)
            [plain, fused], theirs = compare(engine, indices, session, binding, options)
            engine.ask("forget")
            row = f"{plain:.2f} | {fused:.2f} | {theirs:.2f} | {plain / theirs:.2f} | **{fused / theirs:.2f}**"
            print(f"| {name} | {batch} | {row} |", flush=True)
            if fused / theirs > NETWORK_BOUND:
                missed.append(f"{name} batch {batch}: {fused / theirs:.2f}, bound {NETWORK_BOUND}")
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
