"""What the peers share: the case, the data and initial weights that every side can make bit for bit, and the JSON-lines loop.

The generator is counter-based, so a value depends only on (seed, stream, index) and TypeScript repeats it with
`Math.imul` and `>>> 0`. README.md states it in full, with check values.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

FEATURES, TEACHER, PARAMETERS = 1, 2, 16  # streams; parameter tensor i has stream PARAMETERS + i
CLASSES = 10
IMAGES = {"cnn": (1, 28, 28), "convnet": (3, 32, 32), "resnet18": (3, 32, 32)}


class CaseError(Exception):
    """The case or a request cannot be run; the text is one sentence for the person who wrote it."""


@dataclass(frozen=True)
class Case:
    """One training job. `net` is a list of widths (ReLU between them) or the name of a convolutional network."""

    net: tuple[int, ...] | str
    batch: int
    optimizer: str = "sgd"
    rate: float = 0.01
    threads: int = 1
    seed: int = 1
    data: str = "uniform"
    batches: int = 16  # distinct batches; step s trains on batch s mod batches
    width: float = 1.0  # of resnet18: 1 means 64-128-256-512 channels
    layout: str = "contiguous"  # of torch: or channels_last
    dispatch: str = "fastest"  # of JAX: step (a compiled step called from Python), loop (one compiled loop), or the faster

    @property
    def input_shape(self) -> tuple[int, ...]:
        return IMAGES[self.net] if isinstance(self.net, str) else (self.net[0],)

    @property
    def classes(self) -> int:
        return CLASSES if isinstance(self.net, str) else self.net[-1]


def parse_case(text: str) -> Case:
    """Reads a case from JSON; refuses what no peer can run, by name."""

    def expect(ok: bool, key: str, expected: str) -> None:
        if not ok:
            raise CaseError(f"Cannot use {key} of the case: expected {expected} but found {json.dumps(given.get(key))}")

    try:
        given = json.loads(text)
    except ValueError as error:
        raise CaseError(f"Cannot read the case: expected JSON but found {text[:60]!r} ({error})") from None
    if not isinstance(given, dict):
        raise CaseError(f"Cannot read the case: expected a JSON object but found {text[:60]!r}")
    known = [field.name for field in fields(Case)]
    for key in given:
        if key not in known:
            raise CaseError(f"Cannot use {key} of the case: expected one of {', '.join(known)}")
    whole = lambda value, least: type(value) is int and value >= least  # noqa: E731  (True is an int too)
    net = given.get("net")
    if isinstance(net, list):
        expect(len(net) >= 2 and all(whole(width, 1) for width in net), "net", "at least two widths")
        given["net"] = net = tuple(net)
    else:
        expect(net in IMAGES, "net", f"a list of widths or one of {', '.join(IMAGES)}")
    for key in ("batch", "threads", "batches"):
        if key == "batch" or key in given:
            expect(whole(given.get(key), 1), key, "a whole number of at least 1")
    expect(whole(given.get("seed", 1), 0) and given.get("seed", 1) < 2**32, "seed", "a whole number below 2^32")
    for key in ("rate", "width"):
        value = given.get(key, 1.0)
        expect(type(value) in (int, float) and 0 < value < math.inf, key, "a positive number")
    expect(given.get("optimizer", "sgd") in ("sgd", "adam"), "optimizer", "sgd or adam")
    expect(given.get("data", "uniform") == "uniform", "data", "uniform")
    expect(given.get("layout", "contiguous") in ("contiguous", "channels_last"), "layout", "contiguous or channels_last")
    expect(given.get("dispatch", "fastest") in ("fastest", "step", "loop"), "dispatch", "fastest, step or loop")
    return Case(**given)


def use_cores(threads: int) -> bool:
    """Pins this process to `threads` of the cores it may use, before any library starts its pool; False where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise CaseError(f"Cannot use threads of the case: expected at most {len(allowed)}, the cores this process may use, but found {threads}")
    os.sched_setaffinity(0, allowed[-threads:])
    return True


def mix(x: np.ndarray) -> np.ndarray:
    """The 32-bit finaliser `lowbias32` (C. Wellons, public domain), on uint32."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def draw24(seed: int, stream: int, count: int) -> np.ndarray:
    """`count` whole numbers in [0, 2^24), as uint32."""
    key = mix(np.array([(seed + stream * 0x85EBCA6B) & 0xFFFFFFFF], np.uint32))
    index = np.arange(1, count + 1, dtype=np.uint32)
    return mix(index * np.uint32(0x9E3779B9) + key) >> np.uint32(8)


def make_data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Features f32 (batches, batch, *input_shape) in [0, 1) and labels int64 (batches, batch) of a linear teacher.

    The teacher works in whole numbers below 2^53, so its argmax is exact whatever the order of summation.
    """
    rows, inputs = case.batches * case.batch, math.prod(case.input_shape)
    whole = draw24(case.seed, FEATURES, rows * inputs).reshape(rows, inputs)
    teacher = (draw24(case.seed, TEACHER, inputs * case.classes) & np.uint32(15)).astype(np.float64) - 8
    labels = np.empty(rows, np.int64)
    for at in range(0, rows, 1024):
        scores = (whole[at : at + 1024].astype(np.float64) - 2**23) @ teacher.reshape(inputs, case.classes)
        labels[at : at + 1024] = scores.argmax(axis=1)
    features = whole.astype(np.float32) * np.float32(2**-24)
    return features.reshape(case.batches, case.batch, *case.input_shape), labels.reshape(case.batches, case.batch)


def parameter_shapes(case: Case) -> list[tuple[str, tuple[int, ...]]]:
    """Every trained tensor in torch's order, names and shapes (dense weight [out, in], conv weight [out, in, height, width])."""
    dense = lambda at, inputs, outputs: [(f"{at}.weight", (outputs, inputs)), (f"{at}.bias", (outputs,))]  # noqa: E731
    conv = lambda at, inputs, outputs: [(f"{at}.weight", (outputs, inputs, 3, 3)), (f"{at}.bias", (outputs,))]  # noqa: E731
    if case.net == "cnn":
        return [*conv(0, 1, 32), *conv(3, 32, 64), *dense(7, 1600, 128), *dense(9, 128, CLASSES)]
    if case.net == "convnet":
        return [*conv(0, 3, 32), *conv(2, 32, 32), *conv(5, 32, 64), *conv(7, 64, 64), *dense(11, 4096, 128), *dense(13, 128, CLASSES)]
    if case.net == "resnet18":
        return resnet18_shapes(case.width)
    return [entry for i in range(len(case.net) - 1) for entry in dense(2 * i, case.net[i], case.net[i + 1])]


def resnet18_channels(width: float) -> list[int]:
    return [max(1, round(channels * width)) for channels in (64, 128, 256, 512)]


def resnet18_shapes(width: float) -> list[tuple[str, tuple[int, ...]]]:
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def conv_norm(conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> None:
        shapes.append((f"{conv}.weight", (outputs, inputs, kernel, kernel)))
        shapes.extend([(f"{norm}.weight", (outputs,)), (f"{norm}.bias", (outputs,))])

    channels = resnet18_channels(width)
    conv_norm("conv1", "bn1", 3, channels[0], 3)
    inputs = channels[0]
    for stage, outputs in enumerate(channels):
        for block in range(2):
            at = f"layer{stage + 1}.{block}"
            conv_norm(f"{at}.conv1", f"{at}.bn1", inputs, outputs, 3)
            conv_norm(f"{at}.conv2", f"{at}.bn2", outputs, outputs, 3)
            if block == 0 and stage > 0:
                conv_norm(f"{at}.downsample.0", f"{at}.downsample.1", inputs, outputs, 1)
            inputs = outputs
    return [*shapes, ("fc.weight", (CLASSES, inputs)), ("fc.bias", (CLASSES,))]


def make_parameters(case: Case) -> dict[str, np.ndarray]:
    """f32: weights uniform in ±sqrt(6 / fan-in), biases 0, the scale of a normalisation 1."""
    made = {}
    for i, (name, shape) in enumerate(parameter_shapes(case)):
        if len(shape) == 1:
            made[name] = np.full(shape, 1 if name.endswith("weight") else 0, np.float32)
            continue
        limit = math.sqrt(6 / math.prod(shape[1:]))
        unit = draw24(case.seed, PARAMETERS + i, math.prod(shape)).astype(np.float64) * 2**-23 - 1
        made[name] = (unit * limit).astype(np.float32).reshape(shape)
    return made


class Peer(Protocol):
    """A library holding a network in training."""

    name: str
    version: str
    notes: dict[str, Any]  # choices that the peer made by measuring, for the record

    def reset(self) -> None:
        """Back to the initial weights, a fresh optimizer and step 0."""

    def steps(self, count: int) -> tuple[float, float]:
        """Trains exactly `count` steps, waits for them, returns the last step's loss and the mean over the steps."""


def seconds_per_step(peer: Peer, seconds: float) -> float:
    """A warm measurement of about `seconds`."""
    peer.steps(2)
    count = 1
    while True:
        start = time.perf_counter()
        peer.steps(count)
        spent = time.perf_counter() - start
        if spent >= seconds / 2:
            return spent / count
        count = max(count + 1, int(count * min(8.0, seconds / max(spent, 1e-9))))


def serve(case: Case, peer: Peer) -> None:
    """Answers requests on standard input until `stop` or its end. Between requests the process sleeps in a read."""
    # Libraries may print; only the protocol may reach standard output.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(**message: Any) -> None:
        print(json.dumps(message, allow_nan=False), file=replies, flush=True)

    pace = seconds_per_step(peer, 0.2)
    peer.reset()
    reply(event="ready", peer=peer.name, version=peer.version, threads=case.threads, **peer.notes)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            op = request.get("op") if isinstance(request, dict) else None
            if op == "stop":
                return
            if op == "reset":
                peer.reset()
                reply(event="reset")
            elif op == "steps" and type(request.get("n")) is int and request["n"] > 0:
                start = time.perf_counter()
                last, mean = peer.steps(request["n"])
                report(reply, request["n"], time.perf_counter() - start, last, mean)
            elif op == "run" and type(request.get("seconds")) in (int, float) and 0 < request["seconds"] < 3600:
                pace = run_for(peer, float(request["seconds"]), pace, reply)
            else:
                raise CaseError(f'Cannot answer the request: expected {{"op":"run","seconds":s}}, {{"op":"steps","n":n}}, {{"op":"reset"}} or {{"op":"stop"}} but found {line.strip()[:80]}')
        except ValueError as error:
            raise CaseError(f"Cannot answer the request: expected a JSON object but found {line.strip()[:80]} ({error})") from None


def run_for(peer: Peer, seconds: float, pace: float, reply: Any) -> float:
    """Trains for about `seconds` in as few waits as the known pace allows; returns the pace seen."""
    done, total, last = 0, 0.0, math.nan
    start = time.perf_counter()
    spent = 0.0
    while spent < seconds * 0.97 or done == 0:
        count = max(1, round((seconds - spent) / pace))
        last, mean = peer.steps(count)
        done, total = done + count, total + mean * count
        spent = time.perf_counter() - start
        pace = spent / done
    report(reply, done, spent, last, total / done)
    return pace


def report(reply: Any, steps: int, seconds: float, last: float, mean: float) -> None:
    if not (math.isfinite(last) and math.isfinite(mean)):
        raise CaseError(f"Cannot report the run: expected a finite loss but found {last}; try a smaller rate")
    # Bytes on macOS, KiB elsewhere.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    reply(event="ran", steps=steps, seconds=seconds, loss=last, meanLoss=mean, peakBytes=peak)


def main(start: Any) -> None:
    """Runs a peer program: `start(case, arguments)` makes the peer. Errors are one sentence on standard error and exit code 2."""
    try:
        if len(sys.argv) < 2:
            raise CaseError("Cannot start: expected a case as a JSON argument, see README.md")
        case = parse_case(sys.argv[1])
        serve(case, start(case, sys.argv[2:]))
    except CaseError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)
