"""JAX on CPU as a peer: `python jax_step.py CASE`. README.md has the protocol.

Every step is compiled and donates its buffers. Two ways to send steps are measured at the start and the faster one is kept: one
call per step, or a compiled loop over all the steps of a request. Images are NHWC, kernels HWIO, dense weights [in, out].
"""

from __future__ import annotations

import math
import os

import numpy as np

import protocol
from protocol import Case, CaseError

DISPATCHES = ("step", "loop")


def flip(name: str, value: np.ndarray, case: Case) -> np.ndarray:
    """A tensor in torch's order -> JAX's. The first dense layer after NCHW images takes its rows in NHWC order."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if value.ndim == 2:
        first_dense = {"cnn": ("7.weight", 64, 5), "convnet": ("11.weight", 64, 8)}.get(case.net if isinstance(case.net, str) else "")
        if first_dense and name == first_dense[0]:
            _, channels, side = first_dense
            value = value.reshape(-1, channels, side, side).transpose(0, 2, 3, 1).reshape(value.shape)
        return value.T
    return value


class JaxPeer:
    name = "jax"

    def __init__(self, case: Case) -> None:
        import jax
        from jax import numpy as jnp

        self.jax, self.jnp, self.case, self.version = jax, jnp, case, jax.__version__
        features, labels = protocol.make_data(case)
        if features.ndim == 5:
            features = features.transpose(0, 1, 3, 4, 2)
        # One-hot targets: the gradient of a gather is a scatter, which XLA does slowly on a CPU.
        targets = np.eye(case.classes, dtype=np.float32)[labels]
        self.features, self.targets = jnp.asarray(features), jnp.asarray(targets)
        self.batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(features, targets)]
        self.initial = {name: flip(name, value, case) for name, value in protocol.make_parameters(case).items()}
        self.one = jax.jit(self.update, donate_argnums=0)
        self.many = jax.jit(self.loop, donate_argnums=0)
        self.dispatch = self.fastest_dispatch() if case.dispatch == "fastest" else case.dispatch
        self.notes = {"device": "cpu", "dispatch": self.dispatch}
        self.reset()

    def logits(self, p, x):
        jax, jnp, relu = self.jax, self.jnp, self.jax.nn.relu
        dense = lambda at, x: x @ p[f"{at}.weight"] + p[f"{at}.bias"]  # noqa: E731

        def conv(name, x, padding, stride=1):
            kernel = p[f"{name}.weight"]
            return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        def pool(x):
            # Odd sizes lose their last row and column, as in torch. The gradient of reduce_window is three times slower here,
            # that of maxima of strided slices 1.3 times.
            x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
            n, h, w, c = x.shape
            return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))

        def norm(name, x):
            # Training mode; the running statistics that torch also keeps are left out, to JAX's advantage. The variance in
            # one pass, as Flax does it by default: measured up to 15 % faster.
            mean = x.mean(axis=(0, 1, 2))
            variance = jnp.square(x).mean(axis=(0, 1, 2)) - jnp.square(mean)
            return (x - mean) * (jax.lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"]) + p[f"{name}.bias"]

        if self.case.net == "cnn":
            x = pool(relu(conv("0", x, 0) + p["0.bias"]))
            x = pool(relu(conv("3", x, 0) + p["3.bias"]))
            return dense(9, relu(dense(7, x.reshape(x.shape[0], -1))))
        if self.case.net == "convnet":
            x = relu(conv("0", x, 1) + p["0.bias"])
            x = pool(relu(conv("2", x, 1) + p["2.bias"]))
            x = relu(conv("5", x, 1) + p["5.bias"])
            x = pool(relu(conv("7", x, 1) + p["7.bias"]))
            return dense(13, relu(dense(11, x.reshape(x.shape[0], -1))))
        if self.case.net == "resnet18":
            x = relu(norm("bn1", conv("conv1", x, 1)))
            for stage in range(1, 5):
                for block in range(2):
                    at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                    inner = relu(norm(f"{at}.bn1", conv(f"{at}.conv1", x, 1, stride)))
                    inner = norm(f"{at}.bn2", conv(f"{at}.conv2", inner, 1))
                    if f"{at}.downsample.0.weight" in p:
                        x = norm(f"{at}.downsample.1", conv(f"{at}.downsample.0", x, 0, stride))
                    x = relu(inner + x)
            return dense("fc", x.mean(axis=(1, 2)))
        last = len(self.case.net) - 2
        for layer in range(last):
            x = relu(dense(2 * layer, x))
        return dense(2 * last, x)

    def loss(self, parameters, x, y):
        logits = self.logits(parameters, x)
        return (self.jax.nn.logsumexp(logits, axis=1) - (logits * y).sum(axis=1)).mean()

    def gradient(self, parameters, x, y, count):
        """Loss and gradient, or its estimate (g · v) v from one directional derivative along random signs v."""
        jax = self.jax
        loss = lambda p: self.loss(p, x, y)  # noqa: E731
        if self.case.gradient == "backward":
            return jax.value_and_grad(loss)(parameters)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(self.case.seed), count.astype(int)), len(parameters))
        direction = {name: jax.random.rademacher(key, p.shape, p.dtype) for key, (name, p) in zip(keys, parameters.items())}
        value, slope = jax.jvp(loss, (parameters,), (direction,))
        return value, jax.tree.map(lambda v: slope * v, direction)

    def update(self, state, x, y):
        """One step. State: parameters, both moments (empty for SGD), step count, last loss, sum of losses."""
        jnp, tree = self.jnp, self.jax.tree.map
        parameters, first, second, count, _, total = state
        loss, gradient = self.gradient(parameters, x, y, count)
        count, rate = count + 1, self.case.rate
        if self.case.optimizer == "sgd":
            parameters = tree(lambda p, g: p - rate * g, parameters, gradient)
        else:
            first = tree(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
            second = tree(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
            remaining = lambda beta: -jnp.expm1(count * math.log(beta))  # noqa: E731  (1 - beta^count loses four digits in f32)
            size, root = rate / remaining(0.9), jnp.sqrt(remaining(0.999))
            parameters = tree(lambda p, m, v: p - size * m / (jnp.sqrt(v) / root + 1e-8), parameters, first, second)
        return parameters, first, second, count, loss, total + loss

    def loop(self, state, features, targets, at, count):
        def body(i, state):
            index = (at + i) % self.case.batches
            pick = lambda data: self.jax.lax.dynamic_index_in_dim(data, index, keepdims=False)  # noqa: E731
            return self.update(state, pick(features), pick(targets))

        return self.jax.lax.fori_loop(0, count, body, state)

    def reset(self) -> None:
        jnp = self.jnp
        fresh = lambda: {name: jnp.array(value) for name, value in self.initial.items()}  # noqa: E731
        zeros = lambda: {name: jnp.zeros(value.shape) for name, value in self.initial.items()} if self.case.optimizer == "adam" else {}  # noqa: E731
        self.state = (fresh(), zeros(), zeros(), jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))
        self.done = 0

    def fastest_dispatch(self) -> str:
        """Measures both ways in turns, keeps the one with the best turn."""
        best: dict[str, float] = {}
        for _ in range(3):
            for self.dispatch in DISPATCHES:
                self.reset()
                seconds = protocol.seconds_per_step(self, 0.15)
                best[self.dispatch] = min(seconds, best.get(self.dispatch, seconds))
        return min(best, key=best.__getitem__)

    def steps(self, count: int) -> tuple[float, float]:
        state = (*self.state[:-1], self.jnp.zeros(()))
        if self.dispatch == "loop":
            state = self.many(state, self.features, self.targets, self.done % self.case.batches, count)
        else:
            for i in range(self.done, self.done + count):
                state = self.one(state, *self.batches[i % self.case.batches])
        self.done += count
        self.state = state
        return float(state[4]), float(state[5]) / count  # float() waits


def start(case: Case, arguments: list[str]) -> JaxPeer:
    if arguments:
        raise CaseError(f"Cannot use {arguments[0]}: expected no argument after the case")
    # Both before JAX is imported: XLA sizes its pool by the cores that the process may use.
    protocol.use_cores(case.threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if case.threads == 1:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    return JaxPeer(case)


if __name__ == "__main__":
    protocol.main(start)
