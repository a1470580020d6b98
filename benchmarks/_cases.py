"""The shapes at which `lm` is compared with others, in one place. Imports neither jax nor torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lm.config import Config, require
from lm.flags import Flags

Family = Literal['gpt2', 'llama', 'bert', 't5']


@dataclass(frozen=True)
class Case:
    """A model, a batch and a number format.

    Attributes:
      named: the config of `lm` whose sizes it changes; the rest of it stays, so layers are scanned
        and recomputed as in a run of it.
      family: the architecture.
      layers: of it; of the encoder and of the decoder each.
      width, heads, kv_heads, feed_forward, vocabulary: its sizes; a head is width / heads wide.
      rows, seq_len: of a batch, the encoder's where there are two sides.
      decoder_len: the other side's.
      bf16: computed in bf16 from fp32 weights; or all in fp32.
    """

    named: str
    family: Family
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    rows: int
    seq_len: int
    decoder_len: int | None
    bf16: bool

    @property
    def tokens(self) -> int:
        """Of a step, for whoever takes it: rows x seq_len."""
        return self.rows * self.seq_len


CASES = {
    # For CPUs: the LLaMA block of docs/LOG.md's comparisons, and its width in the other families.
    'llama_20m': Case('llama_tiny', 'llama', 4, 256, 4, 4, 1024, 32_000, 8, 256, None, False),
    'bert_20m': Case('bert_tiny', 'bert', 4, 256, 4, 4, 1024, 32_000, 8, 256, None, False),
    't5_20m': Case('t5_tiny', 't5', 4, 256, 4, 4, 1024, 32_000, 8, 256, 64, False),
    # For one GPU of 80 GB.
    'gpt2_124m': Case('gpt2_124m', 'gpt2', 12, 768, 12, 12, 3072, 50_257, 32, 1024, None, True),
    'llama_1b': Case('tinyllama_1b', 'llama', 22, 2048, 32, 4, 5632, 32_000, 8, 2048, None, True),
    'bert_base': Case('bert_base', 'bert', 12, 768, 12, 12, 3072, 30_522, 64, 512, None, True),
    't5v11_base': Case('t5v11_base', 't5', 12, 768, 12, 12, 2048, 32_128, 64, 512, 128, True),
}


def noise_rate(seq_len: int, decoder_len: int) -> float:
    """The share of noise by which T5's span corruption fills rows of two lengths exactly.

    In spans of 3, N of n tokens make n - N + S + 1 inputs and N + S + 1 targets (S sentinels).

    Raises:
      UserError: no number of tokens makes so many targets.
    """
    noise = next((n for n in range(1, decoder_len) if n + round(n / 3) == decoder_len - 1), None)
    require(noise is not None, f'--decoder_len={decoder_len}: spans of 3 do not fill it; add 1')
    assert noise is not None
    return noise / (seq_len - 1 + noise - round(noise / 3))


def lm_config(case: Case, words: Sequence[str] = ()) -> Config:
    """The case as a run of `lm`, dropout off; `words` are flags `--config.FIELD=VALUE` on top.

    Raises:
      UserError: no such field or value.
    """
    shape = {
        'model.num_layers': case.layers,
        'model.d_model': case.width,
        'model.num_heads': case.heads,
        'model.num_kv_heads': case.kv_heads if case.family == 'llama' else 'none',
        'model.d_ff': case.feed_forward,
        'model.vocab_size': case.vocabulary,
        'model.max_positions': case.seq_len,
        'model.dropout': 0,
        'optim.clip_norm': 1,
        'mesh.devices': 1,
        'train.batch_size': case.rows,
        'train.seq_len': case.seq_len,
        'precision.policy': 'bf16_mixed' if case.bf16 else 'fp32',
    }
    if case.decoder_len is not None:
        rate = noise_rate(case.seq_len, case.decoder_len)
        shape['objective.options.noise_rate'] = rate
    given = [f'--config.{field}={value}' for field, value in shape.items()]
    flags = Flags([f'--config={case.named}', *given, *words])
    flags.define_config(case.named)
    flags.parse()
    return flags.config()


def find_case(name: str) -> Case:
    """The case of that name.

    Raises:
      UserError: there is none.
    """
    require(name in CASES, f'--case={name}: there are {", ".join(CASES)}')
    return CASES[name]
