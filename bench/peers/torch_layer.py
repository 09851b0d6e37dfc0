"""One dense layer of PyTorch as a peer: `python torch_layer.py CASE`, with the requests of README.md.

CASE is JSON: {"batch": 128, "inputs": 1024, "outputs": 1024, "size": 0, "layout": "contiguous", "threads": 1, "seed": 1}. A size above 0
makes a convolution of 3 × 3 with padding 1 on square images of it. A step is a forward pass and both gradients; its loss is the sum of
the mean absolute values of outputs, input gradient and weight gradient, so that other sides can be compared.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import protocol
from protocol import CaseError, draw24

FEATURES, GRADIENTS, WEIGHTS, BIAS = 1, 2, 16, 17  # streams of the generator


@dataclass(frozen=True)
class LayerCase:
    batch: int
    inputs: int
    outputs: int
    size: int = 0
    layout: str = "contiguous"
    threads: int = 1
    seed: int = 1


class TorchLayer:
    name = "torch"

    def __init__(self, case: LayerCase) -> None:
        import torch

        torch.set_num_threads(case.threads)
        torch.set_num_interop_threads(1)
        self.torch, self.version, self.notes = torch, torch.__version__, {"layout": case.layout}

        def numbers(stream: int, *shape: int):
            count = 1
            for axis in shape:
                count *= axis
            return torch.from_numpy((draw24(case.seed, stream, count).astype("f8") * 2**-23 - 1).astype("f4").reshape(shape))

        pixels, kernel = ((case.size, case.size), (3, 3)) if case.size else ((), ())
        form = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
        place = lambda tensor: tensor.to(memory_format=form) if tensor.dim() == 4 else tensor  # noqa: E731
        self.x = place(numbers(FEATURES, case.batch, case.inputs, *pixels)).requires_grad_()
        self.g = place(numbers(GRADIENTS, case.batch, case.outputs, *pixels))
        self.w = place(numbers(WEIGHTS, case.outputs, case.inputs, *kernel)).requires_grad_()
        self.b = numbers(BIAS, case.outputs)
        functional = torch.nn.functional
        self.layer = (lambda: functional.conv2d(self.x, self.w, self.b, padding=1)) if case.size else (lambda: functional.linear(self.x, self.w, self.b))

    def reset(self) -> None:
        """Nothing is learnt."""

    def steps(self, count: int) -> tuple[float, float]:
        for _ in range(count):
            y = self.layer()
            dx, dw = self.torch.autograd.grad(y, (self.x, self.w), self.g)
        loss = sum(part.detach().abs().mean().item() for part in (y, dx, dw))
        return loss, loss


def main() -> None:
    try:
        try:
            case = LayerCase(**json.loads(sys.argv[1]))
        except (IndexError, ValueError, TypeError) as error:
            raise CaseError(f"Cannot read the case: expected the JSON of a layer ({error})") from None
        protocol.use_cores(case.threads)
        protocol.serve(case, TorchLayer(case))
    except CaseError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
