"""PyTorch eager as a peer: `python torch_step.py CASE [--device cpu|cuda]`. README.md has the protocol."""

from __future__ import annotations

import argparse
import os

import protocol
from protocol import Case, CaseError

OPTIMIZER_FORMS = ("fused", "foreach", "forloop")


class TorchPeer:
    name = "torch"

    def __init__(self, case: Case, device: str) -> None:
        import torch

        torch.set_num_threads(case.threads)
        torch.set_num_interop_threads(1)
        if device == "cuda" and not torch.cuda.is_available():
            raise CaseError("Cannot use --device cuda: expected a GPU that this torch can reach but found none")
        self.torch, self.case, self.device = torch, case, torch.device(device)
        self.version = torch.__version__
        self.format = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
        if case.layout == "channels_last" and not isinstance(case.net, str):
            raise CaseError("Cannot use layout of the case: expected contiguous for a dense network but found channels_last")
        features, labels = protocol.make_data(case)
        self.features = [self.place(torch.from_numpy(batch)) for batch in features]
        self.labels = [torch.from_numpy(batch).to(self.device) for batch in labels]
        self.initial = {name: torch.from_numpy(value) for name, value in protocol.make_parameters(case).items()}
        self.form = self.fastest_form()
        self.notes = {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "optimizerForm": self.form,
            "layout": case.layout,
            # Active threads spin at a barrier: the faster way on quiet cores, a hundred times the slower where others use them.
            "waiting": os.environ.get("OMP_WAIT_POLICY", "active").lower(),
        }
        self.reset()

    def place(self, batch):
        return batch.to(self.device, memory_format=self.format) if batch.dim() == 4 else batch.to(self.device)

    def network(self):
        from torch import nn

        case = self.case
        if case.net == "resnet18":
            from torch_resnet18 import ResNet18

            made = ResNet18(protocol.resnet18_channels(case.width))
        elif case.net == "cnn":
            made = nn.Sequential(
                nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, protocol.CLASSES),
            )  # fmt: skip
        elif case.net == "convnet":
            made = nn.Sequential(
                nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, protocol.CLASSES),
            )  # fmt: skip
        else:
            layers = []
            for inputs, outputs in zip(case.net[:-1], case.net[1:]):
                layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            made = nn.Sequential(*layers[:-1])
        with self.torch.no_grad():
            for name, parameter in made.named_parameters(remove_duplicate=False):
                parameter.copy_(self.initial[name])
        made = made.to(self.device)
        return made.to(memory_format=self.format) if isinstance(case.net, str) else made

    def reset(self) -> None:
        optim, form = self.torch.optim, {"fused": self.form == "fused", "foreach": self.form == "foreach"}
        self.model = self.network()
        self.loss = self.torch.nn.CrossEntropyLoss()
        kind = optim.SGD if self.case.optimizer == "sgd" else optim.Adam
        self.optimizer = kind(self.model.parameters(), lr=self.case.rate, **form)
        self.done = 0

    def fastest_form(self) -> str:
        """Measures torch's three ways to apply an optimizer, in turns, and keeps the one with the best turn."""
        if self.case.net == "resnet18":
            return "fused"  # one pass over the weights, a hundredth of a step that takes a second: no need to measure
        best: dict[str, float] = {}
        for _ in range(3):
            for self.form in OPTIMIZER_FORMS:
                self.reset()
                seconds = protocol.seconds_per_step(self, 0.1)
                best[self.form] = min(seconds, best.get(self.form, seconds))
        return min(best, key=best.__getitem__)

    def steps(self, count: int) -> tuple[float, float]:
        losses = []
        for _ in range(count):
            at = self.done % self.case.batches
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(self.model(self.features[at]), self.labels[at])
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
            self.done += 1
        return losses[-1].item(), self.torch.stack(losses).mean().item()  # item() waits for a GPU


def start(case: Case, arguments: list[str]) -> TorchPeer:
    parser = argparse.ArgumentParser(prog="torch_step.py CASE")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = parser.parse_args(arguments).device
    if device == "cpu":
        protocol.use_cores(case.threads)
    return TorchPeer(case, device)


if __name__ == "__main__":
    protocol.main(start)
