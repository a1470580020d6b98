"""Steps for TPU slices, their plans and what the compiler says of them; chosen or drawn.

`python -m tests.planning.tpu_cases SEED COUNT` draws cases, prints each and how many are within
15 %. Needs libtpu and no TPU.
"""

import dataclasses
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lm.config import Config
from lm.errors import UserError
from lm.named_configs import load_config
from lm.planning.memory import Memory, Strategy
from lm.planning.plan import plan
from lm.planning.topology import find_topology

ROOT = Path(__file__).parent.parent.parent
CONFIGS = {'bert': 'bert_base', 'gpt2': 'gpt2_124m', 'llama': 'llama_tiny', 't5': 't5v11_base'}


@dataclass(frozen=True)
class Case:
    """A step.

    Attributes:
      name: its architecture.
      topology: the slice.
      strategy: of the mesh.
      rows: that a chip computes on at once, where neither `tensor` nor `seq` splits them.
      length: tokens of a row.
      layers, width, heads, vocabulary, remat, scanned, dropout: of the model.
      microbatches: of a step.
      tensor, seq: axes of the mesh.
      attention: as `mesh.attention`.
    """

    name: str
    topology: str
    strategy: Strategy
    rows: int
    length: int
    layers: int = 6
    width: int = 768
    heads: int = 12
    vocabulary: int = 32_000
    remat: str = 'full'
    scanned: bool = True
    dropout: float = 0.0
    microbatches: int = 1
    tensor: int = 1
    seq: int = 1
    attention: str = 'auto'

    def __str__(self) -> str:
        shown = [self.name, self.topology, self.strategy]
        for field in dataclasses.fields(self)[3:]:
            value = getattr(self, field.name)
            if value != field.default:
                shown.append(f'{field.name}={value}')
        return ' '.join(shown)

    @property
    def config(self) -> Config:
        """The run, on its mesh."""
        chips = find_topology(self.topology).chips
        parts = chips // (self.tensor * self.seq)
        options = {'model.num_kv_heads': self.heads, 'model.d_ff': None}
        return load_config(
            CONFIGS[self.name],
            **{
                'model.num_layers': self.layers,
                'model.d_model': self.width,
                'model.num_heads': self.heads,
                'model.vocab_size': self.vocabulary,
                'model.max_positions': self.length,
                'model.remat': self.remat,
                'model.scan_layers': self.scanned,
                'model.dropout': self.dropout,
                'train.seq_len': self.length,
                'train.batch_size': self.rows * self.microbatches * parts,
                'train.microbatches': self.microbatches,
                'precision.policy': 'bf16_mixed',
                'mesh.strategy': self.strategy,
                'mesh.tensor': self.tensor,
                'mesh.seq': self.seq,
                'mesh.attention': self.attention,
                **(options if self.name == 'llama' else {}),
            },
        )


@dataclass(frozen=True)
class Measured:
    """A case, and the bytes a chip that the compiler says."""

    case: Case
    compiled: int

    @property
    def ratio(self) -> float:
        """The plan's bytes over the compiler's."""
        return planned(self.case).total / self.compiled

    def __str__(self) -> str:
        size, share = self.compiled / 1e9, activation_share(planned(self.case))
        return f'{self.ratio:.2f} of {size:6.2f} GB, activations {share:.2f}: {self.case}'


def planned(case: Case) -> Memory:
    """The plan of a case, by its strategy."""
    topology = find_topology(case.topology)
    found = plan(
        case.config,
        devices=topology.chips,
        device_kind=topology.kind,
        tensor=case.tensor,
        seq=case.seq,
    )
    return found.memory(case.strategy)


def activation_share(memory: Memory) -> float:
    """What of it is activations and logits."""
    return (memory.activations + memory.logits) / memory.total


def measured(case: Case) -> Measured:
    """Compiles a case in a process of its own."""
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
    told = json.dumps(dataclasses.asdict(case))
    done = subprocess.run(
        [sys.executable, '-m', __name__, told],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Measured(case, int(done.stdout))


def _compiled(case: Case) -> int:
    from lm.planning.compiled import CompiledStep, compile_step
    from lm.planning.topology import described_devices
    from lm.training.lowering import lower_step

    found = compile_step(lower_step(case.config, described_devices(find_topology(case.topology))))
    assert isinstance(found, CompiledStep)
    return found.peak


def drawn(generator: random.Random) -> Case:
    """A case of a few thousand to 16k tokens a chip."""
    choose = generator.choice
    width, heads = choose([(512, 8), (768, 12), (1024, 8), (1024, 16), (1536, 12)])
    length = choose([256, 512, 1024, 2048])
    tensor, seq = choose([(1, 1)] * 6 + [(2, 1), (1, 2)])
    return Case(
        name=choose([*CONFIGS]),
        topology=choose(['v5e:2x2', 'v5e:2x4', 'v5e:4x4', 'v5e:8x8', 'v5p:2x2x1', 'v5p:2x2x2']),
        strategy=choose(['ddp', 'zero1', 'zero2', 'zero3']),
        rows=choose([4096, 8192, 16_384]) // length,
        length=length,
        layers=choose([4, 6, 8, 12]),
        width=width,
        heads=heads,
        vocabulary=choose([1024, 8192, 32_000, 50_257]),
        remat=choose(['none', 'dots', 'full']),
        scanned=generator.random() < 0.8,
        dropout=choose([0.0, 0.0, 0.0, 0.1]),
        microbatches=choose([1, 1, 2, 4]),
        tensor=tensor,
        seq=seq,
    )


CASES = (
    Case('gpt2', 'v5p:2x2x1', 'zero3', 16, 512),
    Case('gpt2', 'v5p:2x2x1', 'zero3', 16, 512, remat='none'),
    Case('gpt2', 'v5p:2x2x1', 'zero3', 16, 512, remat='dots'),
    Case('gpt2', 'v5e:4x4', 'zero3', 8, 1024, layers=12, vocabulary=50_257),
    Case('gpt2', 'v5e:2x4', 'zero2', 4, 1024, remat='none', scanned=False),
    Case('gpt2', 'v5e:2x4', 'zero3', 4, 1024, layers=4, remat='none', tensor=2),
    Case('llama', 'v5p:2x2x1', 'zero3', 16, 512, vocabulary=8192, remat='none'),
    Case('llama', 'v5p:2x2x1', 'zero1', 16, 512, vocabulary=8192),
    Case('llama', 'v5p:2x2x1', 'zero3', 4, 512, microbatches=4),
    Case('llama', 'v5e:4x4', 'zero3', 4, 2048, seq=2),
    Case('llama', 'v5e:8x8', 'zero3', 4, 2048, layers=16, width=2048, heads=16),
    Case('bert', 'v5p:2x2x1', 'zero3', 16, 512),
    Case('bert', 'v5e:2x4', 'zero1', 8, 512, layers=12, remat='none', dropout=0.1),
    Case('t5', 'v5e:4x4', 'ddp', 16, 512, layers=8, remat='dots'),
    Case('t5', 'v5p:2x2x2', 'zero2', 16, 512, layers=3, remat='none', scanned=False),
    Case('gpt2', 'v5p:2x2x1', 'zero3', 16, 512, attention='xla'),
    Case('gpt2', 'v5p:2x2x1', 'zero3', 16, 512, remat='none', attention='xla'),
    Case('bert', 'v5p:2x2x1', 'zero3', 16, 512, attention='xla'),
)
"""Across architectures, strategies, `remat` and slices, by splash attention where it serves."""


def main(words: list[str]) -> None:
    """One case told as JSON: prints its bytes. SEED COUNT: draws, compiles and compares."""
    if words[0].startswith('{'):
        print(_compiled(Case(**json.loads(words[0]))))
        return
    generator = random.Random(int(words[0]))
    found = []
    while len(found) < int(words[1]):
        case = drawn(generator)
        try:
            size = planned(case).total
        except UserError:  # span corruption of long rows needs more sentinels
            continue
        # Rematerialisation of the compiler's own begins near the chip's memory.
        if size > 0.6 * find_topology(case.topology).device.memory:
            continue
        found.append(Measured(case, _compiled(case)))
        print(found[-1], flush=True)
    close = sum(abs(one.ratio - 1) <= 0.15 for one in found)
    print(f'{close} of {len(found)} within 15 %')


if __name__ == '__main__':
    main(sys.argv[1:])
