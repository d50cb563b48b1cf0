"""Prepares what `cargo xtask conformance` compares with: prepare.py DATA OUT

DATA is the folder onnx/backend/test/data of the unpacked wheel of onnx. OUT becomes

    pytorch-converted/NAME/   model.onnx in operator set 9 or later, test_data_set_0/ as it was;
                              or refused.txt, why onnx.version_converter does not convert it
    light/NAME/               model.onnx with random weights and every computed tensor as an output,
                              input.pb, and NNN.pb for each output in order, from onnxruntime
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, version_converter

# The oldest operator set that the reader of layerjoule takes.
OPSET = 9
SEED = 20261121
# The largest logit: a softmax that is not all zeros and ones shows errors of what comes before it.
LARGEST_LOGIT = 4.0


def convert_pytorch(data: pathlib.Path, out: pathlib.Path) -> None:
    """Brings the models that PyTorch exported (operator set 6, mostly) to OPSET."""
    for source in sorted(path for path in data.iterdir() if (path / "model.onnx").is_file()):
        target = out / source.name
        target.mkdir(parents=True)
        model = onnx.load(source / "model.onnx")
        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        try:
            if versions[0] < OPSET:
                model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises RuntimeError, ValueError and its own
            (target / "refused.txt").write_text(str(error))
            continue
        onnx.save(model, target / "model.onnx")
        shutil.copytree(source / "test_data_set_0", target / "test_data_set_0")


def draw(rng: np.random.Generator, op: str, place: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers for input `place` of an operator, such that activations keep their magnitude."""

    def normal(std: float) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(std)

    around_one = op == "Mul" or op == "BatchNormalization" and place in (1, 4)
    if around_one:  # scales and variances
        return (rng.random(shape, dtype=np.float32) + np.float32(0.5)).astype(np.float32)
    if op in ("Conv", "Gemm") and place == 1:
        # He et al. 2015 (arXiv 1502.01852), equation 10. Gemm has transB = 1 in all nine.
        return normal(np.sqrt(2.0 / np.prod(shape[1:])))
    return normal(0.1)


def consumer(graph: onnx.GraphProto, name: str) -> tuple[onnx.NodeProto, int] | None:
    """The operator that a weight is for, looked for behind the operators that only reshape it."""
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == name:
                renames = place == 0 and node.op_type in ("Unsqueeze", "Reshape")
                return consumer(graph, node.output[0]) if renames else (node, place)
    return None


def randomise(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Replaces every stripped weight (ConstantOfShape) and every float initializer by random numbers."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {
        node.output[0]: tuple(int(size) for size in numpy_helper.to_array(stored[node.input[0]]))
        for node in graph.node
        if node.op_type == "ConstantOfShape"
    }
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            shapes[tensor.name] = tuple(tensor.dims)
    weights = []
    for name, shape in shapes.items():
        used = consumer(graph, name)
        if used is not None:
            node, place = used
            weights.append(numpy_helper.from_array(draw(rng, node.op_type, place, shape), name))
    rest = [t for t in graph.initializer if t.name not in shapes]
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    # The stripped weights were nodes; as initializers of an old file they need no entry among the inputs
    # from IR version 4 on.
    model.ir_version = max(model.ir_version, 4)
    read = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name not in stored]
    fields = {"initializer": [t for t in rest if t.name in read] + weights, "node": nodes, "input": inputs}
    for field, values in fields.items():
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def expose(model: onnx.ModelProto) -> list[str]:
    """Makes every tensor that depends on the input an output of the graph, in order of the nodes."""
    graph = model.graph
    known = {graph.input[0].name}
    names = []
    for node in graph.node:
        if known.intersection(node.input):
            known.add(node.output[0])
            names.append(node.output[0])
            # The reader names layers after nodes: so tensors and layers find each other.
            node.name = node.output[0]
    graph.ClearField("output")
    graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    return names


def run(path: pathlib.Path, names: list[str], numbers: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    # Each node by itself, as the file says it: fused nodes would leave no intermediate tensors.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(names, {session.get_inputs()[0].name: numbers})


def calibrate(model: onnx.ModelProto, path: pathlib.Path, numbers: np.ndarray) -> None:
    """Scales the last weights so that the largest logit is LARGEST_LOGIT."""
    graph = model.graph
    last = [node for node in graph.node if node.op_type in ("Conv", "Gemm")][-1]
    largest = float(np.abs(run(path, [last.output[0]], numbers)[0]).max())
    for tensor in graph.initializer:
        if tensor.name in last.input[1:]:
            scaled = numpy_helper.to_array(tensor) * np.float32(LARGEST_LOGIT / largest)
            tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
    onnx.save(model, path)


def record_light(source: pathlib.Path, out: pathlib.Path, rng: np.random.Generator) -> None:
    """Writes one network with random weights and what onnxruntime computes of a random image."""
    model = onnx.load(source)
    randomise(model, rng)
    names = expose(model)
    out.mkdir(parents=True)
    path = out / "model.onnx"
    onnx.save(model, path)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    numbers = rng.standard_normal(shape, dtype=np.float32)
    calibrate(model, path, numbers)
    outputs = run(path, names, numbers)
    tensors = [("input", model.graph.input[0].name, numbers)]
    tensors += [(f"{index:03}", name, values) for index, (name, values) in enumerate(zip(names, outputs))]
    for file, name, values in tensors:
        (out / f"{file}.pb").write_bytes(numpy_helper.from_array(values, name).SerializeToString())
    print(f"prepare: {source.stem}: {len(names)} tensors from onnxruntime {ort.__version__}", flush=True)


def main() -> None:
    data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    convert_pytorch(data / "pytorch-converted", out / "pytorch-converted")
    for number, source in enumerate(sorted((data / "light").glob("light_*.onnx"))):
        # A generator for each network, so that one network's numbers do not depend on the others.
        rng = np.random.default_rng([SEED, number])
        record_light(source, out / "light" / source.stem.removeprefix("light_"), rng)


if __name__ == "__main__":
    main()
