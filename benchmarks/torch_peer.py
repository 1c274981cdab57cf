"""Tokens a second of a training step beside PyTorch eager: the same decoder, batch, precision and optimiser on one CPU.

Usage: .venv/bin/python benchmarks/torch_peer.py [--rounds 5] [--seconds 2] [--environment FOLDER] [--find-links FOLDER]
Must hold, two pinned one-thread processes of one side at once: at least 1.1x at 0.06M to 0.25M parameters and at least
0.9x at 1M to 5M; the same loss from the same weights to 1e-5.

PyTorch's CPU build goes into an environment of its own (a folder under the system's temporary one, kept for the next
time). Both sides run float32 on one thread with the memory settings of a study's workers, which help both; PyTorch has
its fused AdamW, fused RMSNorm and scaled_dot_product_attention. Sides take turns, and ratios are taken within a round.
Wall seconds decide; CPU seconds stand beside them, for a machine that does other work too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from babelscale.model import Shape
from babelscale.study.engines import ENVIRONMENT
from babelscale.workers import available_cpus

TORCH = "torch==2.13.0"
# Shape, batch, T, and the limit on the ratio.
CASES = (
    (Shape(2, 2, 32, 128, 16, 1024), 8, 128, 1.1),
    (Shape(2, 2, 32, 128, 16, 2048), 8, 128, 1.1),
    (Shape(3, 4, 64, 256, 16, 1024), 8, 128, 1.1),
    (Shape(3, 4, 128, 512, 32, 2048), 8, 128, 0.9),
    (Shape(3, 4, 128, 512, 32, 2048), 8, 256, 0.9),
    (Shape(4, 7, 224, 896, 32, 2048), 8, 128, 0.9),
    (Shape(4, 8, 256, 1024, 32, 2048), 8, 256, 0.9),
)
# Both sides: set up, tell the loss, then for every line on the standard input train for about its seconds and tell.
LOOP = """
print(json.dumps({"loss": float(loss())}), flush=True)
for k in range(3):
    step(k)
wait()
began = time.perf_counter()
step(0)
wait()
one = time.perf_counter() - began
for line in sys.stdin:
    count = max(2, round(float(line) / one))
    wall, cpu = time.perf_counter(), time.process_time()
    for k in range(count):
        step(k)
    wait()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall": count * batch * length / wall, "cpu": count * batch * length / cpu}), flush=True)
"""
START = """
import json, os, sys, time
cpu, folder, batch, length, *sizes = sys.argv[1:]
os.sched_setaffinity(0, [int(cpu)])
batch, length = int(batch), int(length)
layers, heads, d, d_ff, d_head, vocabulary = map(int, sizes)
import numpy as np
data = np.random.default_rng(0).integers(0, vocabulary, (8, batch, length + 1)).astype(np.int32)
"""
OURS = (
    START
    + """
from pathlib import Path
import jax
from babelscale.model import Shape, decoder
from babelscale.training import memory, mesh
from babelscale.training.program import program
from babelscale.training.recipe import Recipe

shape, devices, zero = Shape(layers, heads, d, d_ff, d_head, vocabulary), mesh.make_mesh(1), np.uint32(0)
recipe = Recipe(batch_size=batch, sequence_length=length)
made = program(shape, recipe, memory.choose(shape, recipe, devices), devices)
state = made.initial(zero)
for name, value in state["parameters"].items():
    if not Path(folder, f"{name}.npy").exists():
        np.save(Path(folder, f"{name}.npy"), np.asarray(value))
metrics = None

def loss():
    return decoder.nats(state["parameters"], data[0], shape).mean()

def step(k):
    global state, metrics
    state, metrics = made.update(state, data[k % 8], np.float32(1e-3), zero, zero)

def wait():
    jax.block_until_ready(metrics)
"""
    + LOOP
)
PEER = (
    START
    + """
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(1)
torch.set_flush_denormal(True)

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.Parameter(torch.ones(d))
        self.attention_in = nn.Linear(d, 3 * heads * d_head, bias=False)
        self.attention_out = nn.Linear(heads * d_head, d, bias=False)
        self.feed_forward_in = nn.Linear(d, 2 * d_ff, bias=False)
        self.feed_forward_out = nn.Linear(d_ff, d, bias=False)

    def forward(self, x, cosines, sines):
        normed = F.rms_norm(x, (d,), self.norm, 1e-6)
        q, k, v = self.attention_in(normed).view(batch, length, 3, heads, d_head).permute(2, 0, 3, 1, 4).unbind(0)

        def turned(z):
            first, second = z.chunk(2, -1)
            return z * cosines + torch.cat((-second, first), -1) * sines

        mixed = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, heads * d_head)
        gate, up = self.feed_forward_in(normed).chunk(2, -1)
        return x + self.attention_out(mixed) + self.feed_forward_out(F.silu(gate) * up)

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        angles = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(0, d_head, 2) / d_head)
        self.register_buffer("cosines", torch.cat((angles.cos(), angles.cos()), -1))
        self.register_buffer("sines", torch.cat((angles.sin(), angles.sin()), -1))

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosines, self.sines)
        return F.linear(x, self.embedding.weight)

model = Decoder()
with torch.no_grad():
    weights = {path.stem: torch.from_numpy(np.load(path)) for path in Path(folder).glob("*.npy")}
    model.embedding.weight.copy_(weights["embedding"])
    for k, block in enumerate(model.blocks):
        block.norm.copy_(weights["norm"][k])
        block.attention_in.weight.copy_(weights["attention_in"][k].reshape(d, -1).T)
        block.attention_out.weight.copy_(weights["attention_out"][k].reshape(-1, d).T)
        block.feed_forward_in.weight.copy_(weights["feed_forward_in"][k].reshape(d, -1).T)
        block.feed_forward_out.weight.copy_(weights["feed_forward_out"][k].T)
matrices = [p for name, p in model.named_parameters() if "norm" not in name]
norms = [p for name, p in model.named_parameters() if "norm" in name]
groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
data = torch.from_numpy(data.astype(np.int64))

def entropy(sequences):
    return F.cross_entropy(model(sequences[:, :-1]).view(-1, vocabulary), sequences[:, 1:].reshape(-1))

def loss():
    with torch.no_grad():
        return entropy(data[0])

def step(k):
    optimiser.zero_grad(set_to_none=True)
    entropy(data[k % 8]).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()

def wait():
    pass
"""
    + LOOP
)


def environment_with_torch(folder: Path, links: Path | None) -> Path:
    """The interpreter of an environment that has PyTorch, made if it is not there."""
    python = folder / "bin" / "python"
    ready = python.exists() and not subprocess.run([python, "-c", "import torch"], check=False).returncode
    if not ready:
        venv.create(folder, with_pip=True)
        where = [] if links is None else ["--find-links", links]
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *where]
        subprocess.run([*pip, TORCH, "numpy"], check=True)
    return python


class Side:
    """Processes of one side, one pinned to each CPU, that wait for their turn."""

    def __init__(self, python: Path, script: str, weights: Path, case: tuple[Shape, int, int]) -> None:
        shape, batch, length = case
        sizes = (shape.layers, shape.heads, shape.d_model, shape.d_ff, shape.d_head, shape.vocabulary)
        self.processes = [
            subprocess.Popen(
                [python, "-c", script, str(cpu), str(weights), str(batch), str(length), *map(str, sizes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
            )
            for cpu in available_cpus()[:2]
        ]
        self.loss = self._told()[0]["loss"]

    def _told(self) -> list[dict[str, float]]:
        return [json.loads(process.stdout.readline()) for process in self.processes if process.stdout is not None]

    def rates(self, seconds: float) -> tuple[float, float]:
        """Tokens a second of both processes together: by wall clock, and by the CPU they got."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        told = self._told()
        return sum(one["wall"] for one in told), sum(one["cpu"] for one in told)

    def close(self) -> None:
        for process in self.processes:
            process.communicate()


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compared(python: Path, case: tuple[Shape, int, int, float], rounds: int, seconds: float) -> bool:
    shape, batch, length, limit = case
    with tempfile.TemporaryDirectory() as weights:
        ours = Side(Path(sys.executable), OURS, Path(weights), case[:3])
        peer = Side(python, PEER, Path(weights), case[:3])
        try:
            sides = [(ours.rates(seconds), peer.rates(seconds)) for _ in range(rounds)]
        finally:
            ours.close()
            peer.close()
    wall = [mine[0] / theirs[0] for mine, theirs in sides]
    cpu = [mine[1] / theirs[1] for mine, theirs in sides]
    apart = abs(ours.loss / peer.loss - 1)
    good = statistics.median(wall) >= limit and apart <= 1e-5
    rates = [statistics.median(side[which][0] for side in sides) for which in (0, 1)]
    print(
        f"{shape.params / 1e6:>9.3f}M{f'{batch} x {length}':>9}{rates[0]:>11,.0f}{rates[1]:>11,.0f}   "
        f"{spread(wall):<22}{spread(cpu):<22}{limit:>5}{apart:>9.0e}{'' if good else '  MISSED'}",
        flush=True,
    )
    return good


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "babelscale-torch-peer")
    parser.add_argument("--find-links", type=Path, default=None)
    given = parser.parse_args()
    python = environment_with_torch(given.environment, given.find_links)
    print("tokens a second of two one-thread runs together; ratio ours / PyTorch eager: median (least to most)")
    print(
        f"{'parameters':>10}{'batch':>9}{'ours':>11}{'PyTorch':>11}   {'ratio by wall':<22}{'by CPU':<22}limit   losses"
    )
    good = [compared(python, case, given.rounds, given.seconds) for case in CASES]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
