"""Writes tests/golden/*.safetensors: what PyTorch computes for small networks, as vectors for our tests.

Run by hand, with the environment of the peers: `bench/peers/.venv/bin/python scripts/golden.py [--check]`. `--check` writes nothing
and compares with the files that are there. tests/golden/README.md says what a file holds.

A new case is one entry in CASES. Initial values and batches come from the generator of bench/peers/protocol.py, not from
PyTorch, and are exact in f32, so that f32 and f64 train on the same numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench" / "peers"))

from protocol import draw24  # noqa: E402
from torch_resnet18 import ResNet18  # noqa: E402

FOLDER = ROOT / "tests" / "golden"
PROBES = 64  # of a tensor of a large network, in place of all its values
DTYPES = {"f64": torch.float64, "f32": torch.float32}
Layer = dict[str, Any]


def sgd(rate: float, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0) -> dict[str, Any]:
    return {"kind": "sgd", "learningRate": rate, "momentum": momentum, "nesterov": nesterov, "weightDecay": decay}


def adam(kind: str, rate: float, decay: float) -> dict[str, Any]:
    return {"kind": kind, "learningRate": rate, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": decay}


def rms_prop(rate: float, decay: float = 0.0) -> dict[str, Any]:
    return {"kind": "rmsProp", "learningRate": rate, "alpha": 0.99, "epsilon": 1e-8, "weightDecay": decay}


# Rates are small enough that rounding does not grow: f32 and f64 must stay together, see `compare_precisions`.
ALL_OPTIMIZERS = {
    "sgd": sgd(0.1),
    "momentum": sgd(0.05, momentum=0.9),
    "nesterov": sgd(0.05, momentum=0.9, nesterov=True),
    "weightDecay": sgd(0.1, decay=0.05),
    "momentumWeightDecay": sgd(0.05, momentum=0.9, decay=0.05),
    "adam": adam("adam", 0.01, 0.0),
    "adamWeightDecay": adam("adam", 0.01, 0.05),
    "adamW": adam("adamW", 0.01, 0.05),
    "rmsProp": rms_prop(0.01),
    "rmsPropWeightDecay": rms_prop(0.01, 0.05),
    "clipped": sgd(0.1),
}


@dataclass(frozen=True)
class Case:
    """`layers` in the words of our configuration, or the name of a model; shapes in PyTorch's order (channels first)."""

    seed: int
    input: tuple[int, ...]
    outputs: int
    batch: int
    loss: dict[str, Any]
    layers: list[Layer] | None = None
    model: str | None = None
    width: float = 1.0
    steps: int = 10
    optimizers: dict[str, dict[str, Any]] = field(default_factory=lambda: ALL_OPTIMIZERS)
    sparsity: float = 0.0  # share of each weight that a mask keeps at 0
    clip_norm: float | None = None  # of the optimizer `clipped`; between the smallest and the largest norm of its run


def dense(units: int, bias: bool = True) -> Layer:
    return {"kind": "dense", "units": units, "bias": bias}


def conv(channels: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1, bias: bool = True) -> Layer:
    return {"kind": "conv2d", "filters": channels, "kernel": kernel, "stride": stride, "padding": padding, "groups": groups, "bias": bias}


def cross_entropy(smoothing: float = 0.0) -> dict[str, Any]:
    return {"kind": "softmaxCrossEntropy", "labelSmoothing": smoothing}


def binary_cross_entropy(smoothing: float = 0.0) -> dict[str, Any]:
    return {"kind": "binaryCrossEntropy", "labelSmoothing": smoothing}


RELU, FLATTEN, NORM = {"kind": "relu"}, {"kind": "flatten"}, {"kind": "layerNorm", "epsilon": 1e-5}
MAX_POOL, AVG_POOL = {"kind": "maxPool2d", "kernel": 2, "stride": 2}, {"kind": "avgPool2d", "kernel": 2, "stride": 2}
BATCH_NORM = {"kind": "batchNorm", "epsilon": 1e-5, "momentum": 0.1}
# A bias before a batch norm has gradient 0, of which only rounding is left: no such bias here.
DENSE_BATCH_NORM = [dense(8, bias=False), BATCH_NORM, {"kind": "tanh"}, dense(4)]
RELU_GELU = [dense(8), RELU, dense(8), {"kind": "gelu"}, dense(4)]
NORM_SIGMOID = [dense(8), NORM, {"kind": "leakyRelu", "slope": 0.1}, dense(7), {"kind": "sigmoid"}, dense(3)]
CNN_LAYERS = [conv(32, 3), RELU, MAX_POOL, conv(64, 3), RELU, MAX_POOL, FLATTEN, dense(128), RELU, dense(10)]
CONV_OPTIMIZERS = {"sgd": sgd(0.05), "momentum": sgd(0.02, momentum=0.9, decay=0.01)}
# At 0.05 a relative change of 4e-7 in the initial weights moves the third loss by 1e-3: single ReLUs switch.
DEEP_OPTIMIZERS = {"sgd": sgd(0.005), "momentum": sgd(0.002, momentum=0.9, decay=0.01)}

CASES = {
    "tanh-mse": Case(1, (7,), 5, 6, {"kind": "meanSquaredError"}, [dense(9), {"kind": "tanh"}, dense(5)], clip_norm=0.5),
    "relu-gelu-xent": Case(2, (6,), 4, 5, cross_entropy(), RELU_GELU, clip_norm=0.5),
    "relu-gelu-xent-smooth": Case(3, (6,), 4, 5, cross_entropy(0.1), RELU_GELU, clip_norm=0.5),
    "norm-sigmoid-bce": Case(4, (6,), 3, 5, binary_cross_entropy(), NORM_SIGMOID, clip_norm=0.25),
    "norm-sigmoid-bce-smooth": Case(5, (6,), 3, 5, binary_cross_entropy(0.2), NORM_SIGMOID, clip_norm=0.25),
    "dense-batch-norm": Case(9, (6,), 4, 8, cross_entropy(), DENSE_BATCH_NORM, clip_norm=0.9),
    "cnn": Case(
        6, (1, 9, 11), 4, 3, cross_entropy(),
        [conv(4, 3), RELU, MAX_POOL, conv(6, 3, padding=1), RELU, MAX_POOL, FLATTEN, dense(10), RELU, dense(4)],
        steps=5, optimizers=CONV_OPTIMIZERS,
    ),
    "model-cnn": Case(12, (1, 14, 14), 10, 16, cross_entropy(), CNN_LAYERS, model="cnn", steps=5, optimizers=CONV_OPTIMIZERS),
    "conv-mixed": Case(
        7, (3, 9, 10), 4, 3, cross_entropy(),
        [
            conv(6, 3, stride=2, padding=1, groups=3, bias=False), BATCH_NORM, RELU,
            conv(6, 3, padding=1, groups=6), {"kind": "groupNorm", "groups": 2, "epsilon": 1e-5}, RELU, AVG_POOL,
            conv(8, 1, padding=1), {"kind": "globalAvgPool2d"}, dense(5), RELU, dense(4),
        ],
        steps=5, optimizers=CONV_OPTIMIZERS,
    ),
    "sparse-dense": Case(10, (9,), 4, 6, cross_entropy(), [dense(20), RELU, dense(18), {"kind": "tanh"}, dense(4)], sparsity=0.7, clip_norm=0.4),
    "sparse-conv": Case(
        11, (3, 9, 8), 4, 3, cross_entropy(),
        [conv(6, 3, padding=1), RELU, conv(5, 5, stride=2, padding=2), RELU, conv(6, 1, bias=False), {"kind": "tanh"}, FLATTEN, dense(4)],
        steps=5, optimizers=CONV_OPTIMIZERS, sparsity=0.6,
    ),
    "resnet18": Case(8, (3, 16, 16), 10, 4, cross_entropy(), model="resnet18", width=1 / 8, steps=5, optimizers=DEEP_OPTIMIZERS),
}  # fmt: skip


def build(case: Case) -> nn.Module:
    if case.model == "resnet18":
        return ResNet18([round(channels * case.width) for channels in (64, 128, 256, 512)])
    # One module for each of our layers, so that PyTorch's index is ours. The shape is followed on an empty batch.
    made: list[nn.Module] = []
    sample = torch.zeros(1, *case.input)
    for layer in case.layers or []:
        module = module_of(layer, tuple(sample.shape[1:]))
        made.append(module)
        sample = module.eval()(sample)
    return nn.Sequential(*made)


class GlobalAveragePool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def module_of(layer: Layer, shape: tuple[int, ...]) -> nn.Module:
    match layer:
        case {"kind": "dense", "units": units, "bias": bias}:
            return nn.Linear(shape[0], units, bias)
        case {"kind": "conv2d", "filters": channels, "kernel": k, "stride": s, "padding": p, "groups": g, "bias": bias}:
            return nn.Conv2d(shape[0], channels, k, s, p, groups=g, bias=bias)
        case {"kind": "batchNorm", "epsilon": epsilon, "momentum": momentum}:
            return (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0], epsilon, momentum)
        case {"kind": "groupNorm", "groups": groups, "epsilon": epsilon}:
            return nn.GroupNorm(groups, shape[0], epsilon)
        case {"kind": "layerNorm", "epsilon": epsilon}:
            return nn.LayerNorm(shape[-1], epsilon)
        case {"kind": "maxPool2d", "kernel": kernel, "stride": stride}:
            return nn.MaxPool2d(kernel, stride)
        case {"kind": "avgPool2d", "kernel": kernel, "stride": stride}:
            return nn.AvgPool2d(kernel, stride)
        case {"kind": "leakyRelu", "slope": slope}:
            return nn.LeakyReLU(slope)
    plain = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "flatten": nn.Flatten, "globalAvgPool2d": GlobalAveragePool}
    return plain[layer["kind"]]()


def draw(case: Case, stream: int, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    unit = draw24(case.seed, stream, math.prod(shape)).astype(np.float64) * 2**-24
    return (low + (high - low) * unit).astype(np.float32).reshape(shape)


def make_batches(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Features f32 in [-1, 1) and targets: labels i32, or f32 values (any for squared error, 0 or 1 for binary cross-entropy)."""
    features = draw(case, 1, (case.steps, case.batch, *case.input), -1, 1)
    if case.loss["kind"] == "softmaxCrossEntropy":
        return features, (draw24(case.seed, 2, case.steps * case.batch) % case.outputs).astype(np.int32).reshape(case.steps, case.batch)
    targets = draw(case, 2, (case.steps, case.batch, case.outputs), -1, 1)
    return features, (targets > 0).astype(np.float32) if case.loss["kind"] == "binaryCrossEntropy" else targets


def make_initial(case: Case, model: nn.Module) -> dict[str, np.ndarray]:
    """Weights uniform in ±1.5/√fan-in; biases and the parameters of normalisations off their usual 0 and 1, so that a mix-up shows."""
    made = {}
    for i, (name, parameter) in enumerate(model.named_parameters()):
        shape = tuple(parameter.shape)
        if len(shape) > 1:
            limit = 1.5 / math.sqrt(math.prod(shape[1:]))
            made[name] = draw(case, 16 + i, shape, -limit, limit)
            if case.sparsity:
                made[name] *= draw(case, 512 + i, shape, 0, 1) >= case.sparsity
        else:
            made[name] = draw(case, 16 + i, shape, 0.7, 1.3) if name.endswith("weight") else draw(case, 16 + i, shape, -0.2, 0.2)
    return made


def make_loss(config: dict[str, Any], dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """Means over rows; over rows and outputs for values."""
    smoothing = config.get("labelSmoothing", 0.0)
    match config["kind"]:
        case "softmaxCrossEntropy":
            cross = nn.CrossEntropyLoss(label_smoothing=smoothing)
            return lambda outputs, targets: cross(outputs, targets.long())
        case "binaryCrossEntropy":
            binary = nn.BCEWithLogitsLoss()
            return lambda outputs, targets: binary(outputs, targets.to(dtype) * (1 - smoothing) + smoothing / 2)
    squared = nn.MSELoss()
    return lambda outputs, targets: squared(outputs, targets.to(dtype))


def make_optimizer(config: dict[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    # `foreach=False`: the plain loop, in the order of operations that PyTorch documents.
    common: dict[str, Any] = {"lr": config["learningRate"], "weight_decay": config["weightDecay"], "foreach": False}
    match config["kind"]:
        case "sgd":
            return torch.optim.SGD(model.parameters(), momentum=config["momentum"], nesterov=config["nesterov"], **common)
        case "rmsProp":
            return torch.optim.RMSprop(model.parameters(), alpha=config["alpha"], eps=config["epsilon"], **common)
    kind = torch.optim.Adam if config["kind"] == "adam" else torch.optim.AdamW
    return kind(model.parameters(), betas=(config["beta1"], config["beta2"]), eps=config["epsilon"], **common)


def results(case: Case, dtype: torch.dtype, initial: dict[str, np.ndarray], features: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Everything that PyTorch computes for a case in one precision."""
    loss_of = make_loss(case.loss, dtype)
    x, y = torch.from_numpy(features).to(dtype), torch.from_numpy(targets)
    found: dict[str, np.ndarray] = {}

    def fresh() -> nn.Module:
        model = build(case).to(dtype).train()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.from_numpy(initial[name]))
                if case.sparsity and parameter.dim() > 1:
                    mask = parameter != 0
                    # What the mask leaves out has no gradient, and stays 0 under every optimizer.
                    parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
        return model

    def keep(name: str, value: Tensor) -> None:
        flat = value.detach().numpy()
        # Outputs are few, and of the gradient of the inputs sums are compared.
        whole = name in ("outputs", "inputGradient") or name.endswith("/evaluated")
        if case.model and flat.size > PROBES and not whole:
            found[f"{name}#norm"] = np.array([np.linalg.norm(flat.astype(np.float64))], flat.dtype)
            flat = flat.reshape(-1)[np.arange(PROBES) * flat.size // PROBES]
        found[name] = flat.copy()

    model = fresh()
    first = x[0].clone().requires_grad_()
    outputs = model(first)
    loss_of(outputs, y[0]).backward()
    keep("outputs", outputs)
    keep("inputGradient", first.grad)
    for name, parameter in model.named_parameters():
        keep(f"gradient/{name}", parameter.grad)

    for label, config in case.optimizers.items():
        model = fresh()
        optimizer = make_optimizer(config, model)
        losses, norms = [], []
        for step in range(case.steps):
            optimizer.zero_grad()
            loss = loss_of(model(x[step]), y[step])
            loss.backward()
            if label == "clipped":
                norms.append(nn.utils.clip_grad_norm_(model.parameters(), case.clip_norm).item())
            optimizer.step()
            losses.append(loss.detach())
        if norms and not min(norms) < case.clip_norm < max(norms):
            sys.exit(f"Cannot use clip_norm {case.clip_norm}: expected a value between the norms {min(norms):.3f} and {max(norms):.3f} of the run")
        keep(f"{label}/losses", torch.stack(losses))
        for name, parameter in model.named_parameters():
            keep(f"{label}/final/{name}", parameter)
        for name, buffer in model.named_buffers():
            if not name.endswith("num_batches_tracked"):
                keep(f"{label}/final/{name}", buffer)
        with torch.no_grad():
            keep(f"{label}/evaluated", model.eval()(x[0]))
    return found


def compare_precisions(name: str, tensors: dict[str, np.ndarray]) -> float:
    """Largest distance of f32 from f64, relative to the largest value of each tensor; ends the program where training is too sensitive."""
    worst, at = 0.0, ""
    for key, exact in tensors.items():
        if key.startswith("f64/"):
            distance = float(np.abs(tensors[f"f32/{key[4:]}"] - exact).max() / max(np.abs(exact).max(), 1e-3))
            worst, at = max((worst, at), (distance, key))
    if worst > 1e-4:
        sys.exit(f"Cannot use the case {name}: expected f32 within 1e-4 of f64 but found {worst:.1e} at {at}; lower the rates")
    return worst


def make(name: str, case: Case) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    features, targets = make_batches(case)
    initial = make_initial(case, build(case))
    tensors = {"features": features, "targets": targets, **{f"initial/{key}": value for key, value in initial.items()}}
    for label, dtype in DTYPES.items():
        tensors |= {f"{label}/{key}": value for key, value in results(case, dtype, initial, features, targets).items()}
    network = {"input": case.input, "model": case.model, "width": case.width} if case.model else {"input": case.input, "layers": case.layers}
    runs = {
        label: {"optimizer": config, "clipNorm": case.clip_norm if label == "clipped" else None} for label, config in case.optimizers.items()
    }
    metadata = {"sparsity": case.sparsity, "network": network, "loss": case.loss, "runs": runs, "probes": PROBES if case.model else None}
    return tensors, {"golden": json.dumps(metadata, sort_keys=True), "torch": torch.__version__}


def to_safetensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Same tensors, same bytes: widest elements first, then by name."""
    names = {"float64": "F64", "float32": "F32", "int32": "I32"}
    header: dict[str, Any] = {"__metadata__": metadata}
    body = b""
    for key in sorted(tensors, key=lambda key: (-tensors[key].itemsize, key)):
        value = tensors[key]
        raw = value.astype(value.dtype.newbyteorder("<")).tobytes()
        header[key] = {"dtype": names[value.dtype.name], "shape": value.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def from_safetensors(data: bytes) -> dict[str, np.ndarray]:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    kinds = {"F64": "<f8", "F32": "<f4", "I32": "<i4"}
    return {
        key: np.frombuffer(data[8 + size :][slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        for key, entry in header.items()
        if key != "__metadata__"
    }


def check(name: str, tensors: dict[str, np.ndarray], stored: dict[str, np.ndarray]) -> None:
    """Another PyTorch or processor rounds differently: results within 1e-12 (f64) and 1e-4 (f32), the rest equal."""
    if tensors.keys() != stored.keys():
        sys.exit(f"Cannot confirm {name}: expected the same entries but found {sorted(tensors.keys() ^ stored.keys())[:5]}")
    for key, value in tensors.items():
        tolerance = {"f64": 1e-12, "f32": 1e-4}.get(key[:3], 0.0)
        distance = float(np.abs(value.astype(np.float64) - stored[key]).max() / max(np.abs(value).max(), 1e-3))
        if distance > tolerance:
            sys.exit(f"Cannot confirm {name}: expected {key} within {tolerance} of the file but found {distance:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the golden vectors.")
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, case in CASES.items():
        tensors, metadata = make(name, case)
        worst = compare_precisions(name, tensors)
        path = FOLDER / f"{name}.safetensors"
        if options.check:
            check(name, tensors, from_safetensors(path.read_bytes()))
        else:
            path.write_bytes(to_safetensors(tensors, metadata))
        print(f"{name}: {path.stat().st_size / 1024:.0f} KiB, f32 within {worst:.1e} of f64")


if __name__ == "__main__":
    main()
