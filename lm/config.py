"""What a run is: one frozen dataclass a section, validated when it is built. Imports no jax.

`Config` holds the sections. A member's own fields are its `Options`, held in the section's
`options`. What changes and checks a config is `lm.resolution`, where one comes from
`lm.named_configs`.
"""

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lm.fields import (
    require,
    setting,
)


def _require_positive(section: str, config: Any, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        require(value is None or value > 0, f'{section}.{field}={value}: must be at least 1')


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the network; the architecture's own choices are its `options`."""

    KIND: ClassVar[str] = 'models'

    name: str = setting('llama', 'architecture: a file of lm/models/architectures')
    num_layers: int = setting(4, 'layers (of the encoder and of the decoder each, where both)')
    d_model: int = setting(128, 'width of the residual stream')
    num_heads: int = setting(4, 'attention heads')
    num_kv_heads: int | None = setting(None, 'key/value groups (GQA); unset: num_heads')
    head_dim: int | None = setting(None, 'width of a head; unset: d_model / num_heads')
    d_ff: int | None = setting(None, "feed-forward width; unset: the architecture's own multiple")
    vocab_size: int | None = setting(None, "tokens; unset: the tokenizer's own number")
    vocab_multiple: int = setting(128, 'the embedding is padded to a multiple of this (no params)')
    max_positions: int = setting(1024, 'longest sequence the model is made for')
    dropout: float = setting(0.0, 'probability of dropping an activation while training')
    head: Literal['vocabulary', 'sequence', 'token', 'span'] | None = setting(
        None,
        'what is predicted: tokens; a label of the row, or of each token; where a span begins and '
        'ends; unset: what the objective asks for',
    )
    num_labels: int | None = setting(None, "labels; unset: as many as the objective's text has")
    scan_layers: bool = setting(True, 'run the layers in one scan (False: unrolled)')
    scan_unroll: int = setting(
        1, 'layers that each turn of the scan runs: faster on GPUs, longer to compile'
    )
    remat: Literal['none', 'full', 'dots', 'offload'] = setting(
        'none',
        'what the backward pass recomputes: nothing, all of a layer, all but its matmuls, all of a '
        "layer from its input in the host's memory",
    )
    options: Any = setting(None, "the architecture's own fields")

    def __post_init__(self) -> None:
        _require_positive(
            'model', self, 'num_layers', 'd_model', 'num_heads', 'num_kv_heads', 'head_dim',
            'd_ff', 'vocab_size', 'vocab_multiple', 'max_positions', 'scan_unroll', 'num_labels',
        )  # fmt: skip
        require(
            self.scan_unroll == 1 or self.scan_layers,
            f'model.scan_unroll={self.scan_unroll}: there is no scan; set model.scan_layers=True',
        )
        require(
            self.num_layers % self.scan_unroll == 0,
            f'model.scan_unroll={self.scan_unroll}: does not divide '
            f'model.num_layers={self.num_layers}',
        )
        require(
            self.head_dim is not None or self.d_model % self.num_heads == 0,
            f'model.num_heads={self.num_heads}: does not divide model.d_model={self.d_model}; '
            'change one of them or set model.head_dim',
        )
        require(
            self.num_kv_heads is None or self.num_heads % self.num_kv_heads == 0,
            f'model.num_kv_heads={self.num_kv_heads}: must divide model.num_heads={self.num_heads}',
        )
        require(0 <= self.dropout < 1, f'model.dropout={self.dropout}: must be in [0, 1)')

    @property
    def kv_heads(self) -> int:
        """G, the number of key/value groups."""
        return self.num_kv_heads or self.num_heads

    @property
    def head_width(self) -> int:
        """K, the width of one head."""
        return self.head_dim or self.d_model // self.num_heads

    @property
    def tokens(self) -> int:
        """V without padding; the tokenizer must have set it."""
        require(self.vocab_size is not None, 'model.vocab_size: unset; give it, or a tokenizer')
        return typing.cast(int, self.vocab_size)

    @property
    def predicts_labels(self) -> bool:
        """Whether it has a head for labels in place of one for tokens."""
        return self.head not in (None, 'vocabulary')

    @property
    def labels(self) -> int:
        """O, what a head for labels tells apart; the text must have set it."""
        if self.head == 'span':
            return 2
        require(self.num_labels is not None, 'model.num_labels: unset; give it, or labelled text')
        return typing.cast(int, self.num_labels)

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: `tokens` rounded up to `vocab_multiple`."""
        return -(-self.tokens // self.vocab_multiple) * self.vocab_multiple


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the model learns to predict."""

    KIND: ClassVar[str] = 'objectives'

    name: str = setting('clm', 'objective: a file of lm/objectives')
    options: Any = setting(None, "the objective's own fields")


@dataclass(frozen=True)
class DataConfig:
    """Which text, how it becomes documents and tokens."""

    source: str = setting(
        'stdlib',
        'stdlib, stdlib_code, a file, directory or glob (gs:// and s3:// too), tfds:NAME, or '
        'hf:NAME[:CONFIG[:SPLIT]]',
    )
    sources: tuple[str, ...] | None = setting(
        None, 'a mixture instead: several texts, each as data.source takes one'
    )
    weights: tuple[float, ...] | None = setting(
        None,
        'shares of rows that the sources get, in their order, of any sum; unset: their tokens, or '
        'examples',
    )
    documents: Literal['file', 'blank_line', 'line'] = setting(
        'file', 'what one document of a plain text is'
    )
    text_field: str = setting('text', 'the field that holds the text (JSONL, parquet, TFDS, hf)')
    stream_documents: int = setting(
        10_000, 'documents that are read of each hf: stream, from its start; it may have fewer'
    )
    tokenizer: str = setting(
        'unigram',
        'unigram, bpe, char or word (trained on the training part), or a .model or tokenizer.json '
        'file, or a folder with one',
    )
    encoding: str = setting('utf-8', 'of text files, such as latin-1')
    validation_fraction: float = setting(
        0.1, 'documents held out (of a single document: its last bytes)'
    )
    validation_source: str = setting(
        '', 'a text of its own that is held out, as data.source takes one; empty: a share of it'
    )
    overfit_batches: int = setting(0, 'train on this many fixed batches over and over; 0: off')
    cache_dir: str = setting(
        '', 'where prepared text is kept; empty: $LM_CACHE or ~/.cache/lm', may_change=True
    )

    def __post_init__(self) -> None:
        require(bool(self.source), 'data.source: empty; give stdlib, a path, tfds:NAME or hf:NAME')
        self._check_mixture()
        require(
            0 < self.validation_fraction < 1,
            f'data.validation_fraction={self.validation_fraction}: must be between 0 and 1',
        )
        require(
            not (self.validation_source and self.sources),
            f'data.validation_source={self.validation_source}: not with data.sources, which each '
            'hold out a share; give one data.source',
        )
        require(
            _is_byte_by_byte(self.encoding),
            f'data.encoding={self.encoding}: must be an encoding of text in which a line ends with '
            'one byte, such as utf-8 or latin-1',
        )
        require(
            self.stream_documents >= 1,
            f'data.stream_documents={self.stream_documents}: must be at least 1',
        )
        require(
            self.overfit_batches >= 0, f'data.overfit_batches={self.overfit_batches}: must be >= 0'
        )

    def _check_mixture(self) -> None:
        sources, weights = self.sources, self.weights
        if sources is None:
            require(weights is None, 'data.weights: weighs data.sources; give those too')
            return
        require(len(sources) > 0, 'data.sources: empty; give texts as data.source takes one')
        require(
            self.source == DataConfig.source,
            f'data.source={self.source}: not together with data.sources; give one of them '
            f'(data.source={DataConfig.source}, the default, is as good as none)',
        )
        for name in sources:
            require(bool(name.strip()), f'data.sources={",".join(sources)}: one of them is empty')
            require(sources.count(name) == 1, f'data.sources: {name} is there twice; give it once')
        if weights is None:
            return
        require(
            len(weights) == len(sources),
            f'data.weights={",".join(map(str, weights))}: {len(weights)} for {len(sources)} of '
            'data.sources; give one for each',
        )
        for name, weight in zip(sources, weights, strict=True):
            require(
                math.isfinite(weight) and weight > 0,
                f'data.weights: {weight} for {name}; must be a positive number',
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The texts as they were given: one, or those of a mixture."""
        return (self.source,) if self.sources is None else self.sources

    @property
    def words(self) -> str:
        """The field that names the text, and its value, as errors begin."""
        field = 'source' if self.sources is None else 'sources'
        return f'data.{field}={",".join(self.names)}'


def _is_byte_by_byte(encoding: str) -> bool:
    try:
        return '\n'.encode(encoding) == b'\n'
    except (LookupError, UnicodeError):
        return False


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer, learning-rate schedule, clipping and decay."""

    KIND: ClassVar[str] = 'optimizers'

    name: str = setting('adamw', 'optimizer: a file of lm/optim/optimizers')
    peak_lr: float = setting(1e-3, 'learning rate at the end of the warm-up')
    eps: float = setting(1e-8, "the optimizer's epsilon")
    weight_decay: float = setting(0.1, 'decoupled decay of the matrices (not norms, biases)')
    clip_norm: float | None = setting(1.0, 'global gradient norm is clipped to this; none: off')
    schedule: str = setting('cosine', 'learning-rate schedule: a file of lm/optim/schedules')
    warmup_steps: int = setting(100, 'steps of linear warm-up from 0')
    decay_steps: int | None = setting(
        None, "last steps over which wsd decays; unset: a fifth of the run's steps"
    )
    final_lr_fraction: float = setting(0.1, 'learning rate at the end, as a share of the peak')
    options: Any = setting(None, "the optimizer's own fields")

    def __post_init__(self) -> None:
        require(self.peak_lr > 0, f'optim.peak_lr={self.peak_lr}: must be positive')
        require(self.eps > 0, f'optim.eps={self.eps}: must be positive')
        require(self.weight_decay >= 0, f'optim.weight_decay={self.weight_decay}: must be >= 0')
        require(
            self.clip_norm is None or self.clip_norm > 0,
            f'optim.clip_norm={self.clip_norm}: must be positive, or none for no clipping',
        )
        require(self.warmup_steps >= 0, f'optim.warmup_steps={self.warmup_steps}: must be >= 0')
        _require_positive('optim', self, 'decay_steps')
        require(
            0 <= self.final_lr_fraction <= 1,
            f'optim.final_lr_fraction={self.final_lr_fraction}: must be in [0, 1]',
        )


BUDGETS = ('tokens', 'flops', 'tokens_per_param', 'hours')
"""Fields of `TrainConfig` that decide its `steps`; at most one is set."""


@dataclass(frozen=True)
class TrainConfig:
    """How long, on how much at once, and from which seed."""

    steps: int = setting(1000, 'optimizer steps; worked out from the budget where one is set')
    tokens: int | None = setting(
        None, 'budget: as many steps as read at most so many tokens, as metrics.jsonl counts them'
    )
    flops: float | None = setting(
        None, 'budget: as many steps as take at most so many FLOPs, by the rule of summary.json'
    )
    tokens_per_param: float | None = setting(
        None, 'budget: tokens over all parameters (summary.json: params, embeddings too)'
    )
    hours: float | None = setting(
        None, 'budget: hours in the loop; steps are timed before the run, and it stops when over'
    )
    batch_size: int = setting(32, 'rows a step, over all devices and microbatches')
    seq_len: int = setting(128, "tokens a row (the encoder's, where there are two sides)")
    seed: int = setting(0, 'decides initialisation, data order, corruption and dropout')
    microbatches: int = setting(1, 'a step accumulates gradients over this many parts')
    z_loss: float = setting(
        0.0, 'weight of log² Z (the softmax normaliser) beside the loss; PaLM: 1e-4'
    )
    log_every_steps: int = setting(10, 'steps between rows of metrics.jsonl')
    noise_scale: bool = setting(
        False, 'measure the gradient noise scale, of gradients of microbatches (2 or more)'
    )
    loggers: tuple[str, ...] = setting(
        (), 'who else is told of the run: files of lm/training/loggers (wandb, mlflow)'
    )

    def __post_init__(self) -> None:
        _require_positive(
            'train', self, 'steps', 'batch_size', 'seq_len', 'microbatches', 'log_every_steps'
        )
        for name in BUDGETS:
            value = getattr(self, name)
            require(value is None or value > 0, f'train.{name}={value}: must be positive')
        require_one_length({name: getattr(self, name) for name in BUDGETS})
        require(self.z_loss >= 0, f'train.z_loss={self.z_loss}: must not be negative')
        require(0 <= self.seed < 2**31, f'train.seed={self.seed}: must be in [0, 2**31)')
        require(
            self.batch_size % self.microbatches == 0,
            f'train.microbatches={self.microbatches}: does not divide '
            f'train.batch_size={self.batch_size}',
        )
        require(
            len({*self.loggers}) == len(self.loggers),
            f'train.loggers={",".join(self.loggers)}: names one of them twice',
        )
        require(
            not self.noise_scale or self.microbatches >= 2,
            f'train.noise_scale=True: compares microbatches; train.microbatches={self.microbatches}'
            ' must be at least 2',
        )

    @property
    def budget(self) -> str | None:
        """Which of `BUDGETS` decides `steps`; None where they are given themselves."""
        return next((name for name in BUDGETS if getattr(self, name) is not None), None)

    @property
    def length_words(self) -> str:
        """How long the run is, and why: `train.steps=12 (train.tokens=9999)`."""
        why = f' (train.{self.budget}={getattr(self, self.budget)})' if self.budget else ''
        return f'train.steps={self.steps}{why}'


def require_one_length(given: Mapping[str, Any]) -> None:
    """Refuses two values that each say how long a run is."""
    said = [f'train.{name}={value}' for name, value in given.items() if value is not None]
    require(len(said) <= 1, f'{", ".join(said)}: each says how long the run is; give one of them')


@dataclass(frozen=True)
class EvalConfig:
    """Held-out text: how often, how much, and the sample that is printed."""

    every_steps: int = setting(500, 'steps between evaluations; the end is always evaluated whole')
    batches: int = setting(
        16, 'batches of held-out rows (of each source) in an evaluation before the end'
    )
    measures: tuple[str, ...] = setting(
        (), "of a task's held-out examples: those of lm/evaluation/tasks; unset: its usual ones"
    )
    sources: tuple[str, ...] = setting(
        (),
        'texts beside those trained on, each as data.source takes one, whose held-out part is '
        'scored too',
    )
    sample_tokens: int = setting(64, 'tokens of the sample printed at an evaluation; 0: none')
    sample_prompt: str = setting('', 'what the printed sample continues')

    def __post_init__(self) -> None:
        _require_positive('eval', self, 'every_steps', 'batches')
        for name in self.sources:
            require(bool(name.strip()), f'eval.sources={",".join(self.sources)}: one is empty')
            count = self.sources.count(name)
            require(count == 1, f'eval.sources: {name} is there {count} times; give it once')
        require(self.sample_tokens >= 0, f'eval.sample_tokens={self.sample_tokens}: must be >= 0')


@dataclass(frozen=True)
class CheckpointConfig:
    """What is saved, when, and what a new run starts from."""

    every_steps: int = setting(500, 'steps between checkpoints; the end is always saved')
    keep_latest: int = setting(2, 'checkpoints kept, newest first')
    keep_every_steps: int | None = setting(None, 'checkpoints at multiples of this are kept too')
    init_from: str = setting(
        '',
        'whose parameters a new run starts from: a workdir (its newest checkpoint), WORKDIR@STEP '
        'or a Hugging Face folder',
    )

    def __post_init__(self) -> None:
        _require_positive('checkpoint', self, 'every_steps', 'keep_latest', 'keep_every_steps')


@dataclass(frozen=True)
class MeshConfig:
    """How the work is laid over the devices."""

    strategy: Literal['ddp', 'zero1', 'zero2', 'zero3'] = setting(
        'ddp',
        'what is split over fsdp: nothing (ddp), optimizer state (zero1), gradients too (zero2), '
        'parameters too (zero3)',
    )
    replica: int | None = setting(
        None, 'groups of devices that each hold everything once; -1: the rest; unset: 1, in ddp -1'
    )
    fsdp: int | None = setting(
        None, 'devices that the state is split over; -1: the rest; unset: -1, in ddp 1'
    )
    tensor: int | None = setting(
        None, 'devices that heads, feed-forward and vocabulary are split over; unset: 1'
    )
    seq: int | None = setting(None, 'devices that the positions of a row are split over; unset: 1')
    context: Literal['gather', 'ring'] = setting(
        'gather', 'how queries reach keys of other devices of seq: gathered, or in a ring'
    )
    attention: Literal['auto', 'xla', 'blockwise', 'cudnn', 'splash'] = setting(
        'auto',
        "what computes attention; auto: the device's own kernel where it has one, on a CPU "
        'blockwise for rows of several times 128',
    )
    collectives: Literal['auto', 'explicit'] = setting(
        'auto', 'who puts them in: the compiler, or (zero2, zero3) a step by shard_map'
    )
    offload: Literal['none', 'optimizer'] = setting(
        'none', "what lies in the host's memory between updates: nothing, the optimizer's state"
    )
    devices: int | None = setting(None, 'how many devices to use; unset: all there are')

    def __post_init__(self) -> None:
        for axis in ('replica', 'fsdp', 'tensor', 'seq'):
            size = getattr(self, axis)
            require(
                size is None or size == -1 or size > 0,
                f'mesh.{axis}={size}: must be a number of devices, or -1 for the rest',
            )
        _require_positive('mesh', self, 'devices')


@dataclass(frozen=True)
class PrecisionConfig:
    """Which number formats a run computes and keeps its state in."""

    policy: Literal[
        'auto', 'fp32', 'tf32', 'bf16_mixed', 'bf16_pure', 'fp16_mixed', 'int8_qat',
        'int8_weight_only', 'fp8',
    ] = setting('auto', 'number formats; auto: fp32 on CPU, bf16_mixed elsewhere')  # fmt: skip
    stochastic_rounding: bool = setting(
        False, 'bf16_pure: updates are rounded up or down by chance, right in the mean'
    )
    loss_scaling: Literal['auto', 'dynamic', 'fixed'] = setting(
        'auto',
        'what multiplies the mean loss before the backward pass: auto: dynamic under fp16_mixed, '
        'else nothing; dynamic: a scale that halves where gradients overflow, and grows',
    )
    loss_scale: float = setting(2.0**16, 'the scale, or the first of a dynamic one; a power of two')
    loss_scale_growth_steps: int = setting(
        1000, 'a dynamic scale doubles after so many steps without an overflow'
    )

    def __post_init__(self) -> None:
        scale = self.loss_scale
        require(
            scale > 0 and math.frexp(scale)[0] == 0.5 and -24 <= math.log2(scale) <= 64,
            f'precision.loss_scale={scale:g}: must be a power of two from 2**-24 to 2**64, so that '
            'it changes no digit',
        )
        _require_positive('precision', self, 'loss_scale_growth_steps')


@dataclass(frozen=True)
class Config:
    """A whole run. Two runs with equal configs and text compute the same numbers."""

    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    precision: PrecisionConfig = PrecisionConfig()

    def __post_init__(self) -> None:
        require(
            self.train.seq_len <= self.model.max_positions,
            f'train.seq_len={self.train.seq_len}: longer than '
            f'model.max_positions={self.model.max_positions}; lower one or raise the other',
        )
        for name in self.eval.sources:
            require(
                name not in self.data.names,
                f'eval.sources: {name} is in {self.data.words}: scored already; leave it out',
            )
