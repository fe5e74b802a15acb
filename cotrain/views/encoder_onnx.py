"""A network as an ONNX graph on the CPU, in 32-bit floats or with 8-bit integers in its large products.

Dynamic quantization: weights are 7-bit integers per output channel, activations 8-bit ones as they come. With 8-bit
weights the sum of two products may pass 16 bits, which is all that processors without instructions for it (AVX2) have:
least cosine of a sentence encoder to its float vectors 0.990 instead of 0.992 there, and a small network is far off.
Products whose weights narrow (more inputs than outputs: the second layer of a transformer's feed-forward part) stay in
floats, because their inputs have outliers that eight bits cannot hold: least cosine of the same encoder 0.982 with them
quantized, 0.992 without.
"""

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

Session = Callable[[Mapping[str, Tensor]], np.ndarray]


def installed() -> bool:
    """Whether onnx and onnxruntime can be loaded."""
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return False
    return bool(onnx and onnxruntime)


def export(module: nn.Module, inputs: Mapping[str, Tensor], folder: Path) -> tuple[Path, Path]:
    """Writes fp32.onnx and int8.onnx into a folder, unless they are there, and gives their paths.

    inputs: an example; batch and, for inputs [B, L], length are free in the graph.

    Raises whatever the exporter and the quantizer raise on a network that they cannot take.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, small = folder / "fp32.onnx", folder / "int8.onnx"
    if plain.is_file() and small.is_file():
        return plain, small
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as unfinished, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            new, quantized = Path(unfinished, "fp32.onnx"), Path(unfinished, "int8.onnx")
            free = {name: {0: "batch", 1: "length"} if x.ndim == 2 else {0: "batch"} for name, x in inputs.items()}
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                str(new),
                input_names=list(inputs),
                output_names=["vector"],
                dynamic_axes=free | {"vector": {0: "batch"}},
                dynamo=False,
            )
            graph = onnx.load(str(new)).graph
            shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
            narrowing = [
                node.name
                for node in graph.node
                if node.op_type == "MatMul"
                for shape in [shapes.get(node.input[1], (0, 0))]
                if len(shape) == 2 and shape[0] > shape[1]
            ]
            quantize_dynamic(
                str(new),
                str(quantized),
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
                nodes_to_exclude=narrowing,
            )
        finally:
            logging.disable(level)
        os.replace(new, plain)
        os.replace(quantized, small)
    return plain, small


def session(path: Path) -> Session:
    """The graph of a file, ready to run on as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    runner = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: runner.run(None, {name: x.numpy() for name, x in inputs.items()})[0]
