"""The forward half of `lm budget`: FLOPs of parameters and tokens, by each rule."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lm.config import Config
from lm.errors import UserError
from lm.models.spec import TransformerSpec
from lm.planning.appendix_f import RULE_LAYERS, RULE_WHOLE, ChinchillaShape
from lm.planning.budget import budget_steps
from lm.planning.concrete_shape import ConcreteShape, concrete_shape
from lm.planning.counts import count_parameters
from lm.planning.flops import FlopCount, train_flops, train_flops_exact
from lm.planning.kaplan import RULE as KAPLAN_RULE
from lm.planning.kaplan import KaplanShape
from lm.planning.parameters import ModelShape, model_shape
from lm.planning.rows import num_asked, side_lengths, tokens_per_row

Family: TypeAlias = Literal['decoder', 'encoder', 'encdec']

PER_PARAM_AND_TOKEN = {
    'decoder': (6, '6ND: 6 FLOPs per parameter and token (Kaplan et al. 2020, section 2.1)'),
    'encoder': (6, '6ND: 6 FLOPs per parameter and token (Kaplan et al. 2020, section 2.1)'),
    'encdec': (
        3, '3ND: 3 FLOPs per parameter and token, as each half sees its own tokens '
        '(Brown et al. 2020, table D.1)',
    ),
}  # fmt: skip
"""Factors by family, and what they stand for."""


@dataclass(frozen=True)
class Counted:
    """The compute of a run.

    Args:
      params, tokens: N and D, D of both sides of an encoder-decoder.
      flops: by the rule named first.
      rule: that rule in words.
      rules: FLOPs and words by each rule, by name.
      shape: that the other rules were counted of, where only N was given.
    """

    params: float
    tokens: float
    family: Family
    flops: float
    rule: str
    rules: dict[str, tuple[float, str]]
    shape: ConcreteShape | None = None


def count_size(
    params: float, tokens: float, family: Family, seq_len: int, vocab_size: int
) -> Counted:
    """Of parameters and tokens alone; other rules than 6 N D of the shape for so many."""
    factor, words = PER_PARAM_AND_TOKEN[family]
    flops = factor * params * tokens
    rules = {f'{factor}ND': (flops, words)}
    shape = None
    if family == 'decoder':
        try:
            shape = concrete_shape(params, vocab_size)
        except UserError:
            # So small a model has no LLaMA's shape; 6 N D holds of it all the same.
            return Counted(params, tokens, family, flops, words, rules)
        model, rows = model_shape(shape.config), tokens / seq_len
        rules['exact'] = _of_rows(train_flops_exact(model, seq_len), rows)
        rules |= _by_shape(model, rows, seq_len)
    return Counted(params, tokens, family, flops, words, rules, shape)


def count_config(config: Config, tokens: float | None) -> Counted:
    """Of a config, exactly; its own tokens where none are given.

    Raises:
      UserError: the config's length is a time, or its model cannot be counted.
    """
    model = model_shape(config.model)
    per_row = tokens_per_row(config)
    if tokens is None:
        steps = budget_steps(config)
        if steps is None:
            raise UserError('--tokens: missing; train.hours says no number of them')
        tokens = float(steps * config.train.batch_size * per_row)
    first, *second = side_lengths(config, model.family).values()
    lengths = (first, second[0] if second else None)
    by_6n = train_flops(model, *lengths)
    exact = train_flops_exact(model, *lengths, asked=num_asked(config))
    rows = tokens / per_row
    family: Family = 'encdec' if second else 'encoder' if model.family == 'encoder' else 'decoder'
    factor, words = PER_PARAM_AND_TOKEN[family]
    params, seen = float(count_parameters(model).total), rows * by_6n.tokens
    rules = {
        'exact': _of_rows(exact, rows),
        f'{factor}ND': (factor * params * seen, words),
        '6N_matmul': _of_rows(by_6n, rows),
    }
    if family != 'encdec':
        rules |= _by_shape(model, rows, config.train.seq_len)
    return Counted(params, seen, family, *rules['exact'], rules)


def _by_shape(model: ModelShape, rows: float, seq_len: int) -> dict[str, tuple[float, str]]:
    """Kaplan's and Chinchilla's counts of a model of one side, and the exact causal one."""
    spec = model.spec
    found = {}
    if isinstance(spec, TransformerSpec) and spec.config.kv_heads == spec.config.num_heads:
        config = spec.config
        # Neither paper's transformer has a gate: its matrix is counted as half as many units more.
        d_ff = spec.feed_forward_width * 3 // 2 if spec.gated else spec.feed_forward_width
        width = config.num_heads * config.head_width
        kaplan = KaplanShape(config.num_layers, config.d_model, d_ff, width)
        chinchilla = ChinchillaShape(
            config.num_layers, config.d_model, d_ff, config.head_width, config.num_heads,
            config.tokens,
        )  # fmt: skip
        found = {
            'kaplan2020': (rows * seq_len * kaplan.train_flops_per_token(seq_len), KAPLAN_RULE),
            'appendix_f': (rows * chinchilla.train_flops(seq_len), RULE_LAYERS),
            'appendix_f_whole': (rows * chinchilla.train_flops(seq_len, logits=True), RULE_WHOLE),
        }
    if model.family == 'decoder':
        halved = train_flops_exact(model, seq_len, attention='causal_halved')
        found['exact_causal_halved'] = _of_rows(halved, rows)
    return found


def _of_rows(count: FlopCount, rows: float) -> tuple[float, str]:
    return float(count.row) * rows, count.rule
