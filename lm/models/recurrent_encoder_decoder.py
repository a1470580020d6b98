"""A recurrent encoder-decoder: an encoder that reads both ways, a decoder that attends to it.

Each layer of the decoder attends (as in Gehring et al. 2017, section 3.3), so that a layer knows
from the one below what was attended to at earlier places. That stands in for the feeding of
attention back into the input (Luong et al. 2015, section 3.3), with which no position could be
computed before all of the one before it: here a layer multiplies the inputs of all positions at
once. States are zero where a segment begins; a decoder knows the encoder's text by attention alone.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int

from lm.batch import Batch
from lm.models.apart import unstacked
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.model import Model
from lm.models.recurrent import CELLS, Cell, RecurrentStack, State, restarted
from lm.models.recurrent_spec import RecurrentSpec
from lm.shapes import HiddenBTD


class Memory(NamedTuple):
    """What a decoder reads of an encoder.

    Attributes:
      x_BSD: its hidden states, keys and values of all layers.
      segments_BS: int32 segment ids of these.
    """

    x_BSD: Float[jax.Array, 'B S D']
    segments_BS: Int[jax.Array | np.ndarray, 'B S']


class BothWays(nnx.Module):
    """Two cells, half as wide, of which one reads each segment from its end.

    What both give at a position, side by side, knows all of its segment (Bahdanau et al. 2014,
    section 3.2).
    """

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs):
        cell = CELLS[spec.cell]
        self.forward: Cell = cell(spec, rngs, 'E')
        self.backward: Cell = cell(spec, rngs, 'E')

    def __call__(
        self, x_BTD: HiddenBTD, segments_BT: Int[jax.Array, 'B T'], context: Context
    ) -> HiddenBTD:
        """[B, T, D] -> [B, T, D], within segments."""
        forward = restarted(_begins(segments_BT))
        backward = restarted(_begins(segments_BT[:, ::-1]))
        forward_BTE = forward(self.forward, x_BTD, context)
        backward_BTE = backward(self.backward, x_BTD[:, ::-1], context)
        return jnp.concatenate([forward_BTE, backward_BTE[:, ::-1]], axis=-1)


class GeneralAttention(nnx.Module):
    """tanh(W c + U h), c = sum_s softmax(h' A m / sqrt(D))_s m_s (Luong et al. 2015, section 3.1).

    The paper's `general` score of a state h with the encoder's m, by one head, but for the root of
    the width (Vaswani et al. 2017, section 3.2.1), without which wide models begin with all weight
    on one place. W and U are the two halves of its W_c.
    """

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs):
        d, init = spec.config.d_model, spec.init.cell
        self.query, self.output, self.state = (
            nnx.Param(init(rngs.params(), (d, d), jnp.float32), dims='DD') for _ in range(3)
        )

    def __call__(
        self,
        h_BTD: HiddenBTD,
        segments_BT: Int[jax.Array, 'B T'],
        memory: Memory,
        context: Context,
    ) -> HiddenBTD:
        """The states of a cell with what they attend to, of the encoder's segments of their id."""
        layout = context.layout
        q_BTD = context.product('BTD,DE->BTE', h_BTD, self.query)
        m_BSGK = layout.constrain(memory.x_BSD[:, :, None], 'BSGK')
        seen_BTHK = layout.attend(
            layout.constrain(q_BTD[:, :, None], 'BTHK'),
            m_BSGK,
            m_BSGK,
            segments_BT=segments_BT,
            segments_BS=jnp.asarray(memory.segments_BS),
            causal=False,
        )
        attended_BTD = context.product('BTD,DE->BTE', seen_BTHK[:, :, 0], self.output)
        y_BTD = jnp.tanh(attended_BTD + context.product('BTD,DE->BTE', h_BTD, self.state))
        return layout.constrain(y_BTD, 'BTD')


class AttendingCell(nnx.Module):
    """A cell, and attention to the encoder by what the cell gives out."""

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs):
        self.cell: Cell = CELLS[spec.cell](spec, rngs)
        self.cross_attention = GeneralAttention(spec, rngs)

    def __call__(
        self,
        x_BTD: HiddenBTD,
        segments_BT: Int[jax.Array, 'B T'],
        starts_BT: Bool[jax.Array, 'B T'],
        state: State,
        memory: Memory,
        context: Context,
    ) -> tuple[HiddenBTD, State]:
        """As of `Cell`."""
        h_BTD, state = self.cell(x_BTD, starts_BT, state, context)
        return self.cross_attention(h_BTD, segments_BT, memory, context), state


class ReadBoth(NamedTuple):
    """What recurrent layers keep of the tokens that they have read, and what they attend to.

    Attributes:
      states: each array [L, B, D].
      memory: of the encoder.
    """

    states: State
    memory: Memory

    def reordered(self, rows_B: Int[jax.Array, ' C']) -> 'ReadBoth':
        """The state of other rows: C of those that there are, some of them more than once."""
        return ReadBoth(
            tuple(jnp.take(x_LBD, rows_B, axis=1) for x_LBD in self.states),
            Memory(*(jnp.take(x, rows_B, axis=0) for x in self.memory)),
        )


LogitsAndRead: TypeAlias = tuple[Float[jax.Array, 'B V'], ReadBoth]


class RecurrentEncoderDecoderModel(Model):
    """Two stacks over one token embedding; decoder segments read encoder segments of their id."""

    bounded = False  # the state has read all, however long

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs):
        self.embedding = Embedding(spec, rngs)
        self.encoder = RecurrentStack(spec, rngs, partial(BothWays, spec))
        self.decoder = RecurrentStack(spec, rngs, partial(AttendingCell, spec))
        self.head = Head(spec, rngs)
        self.dropout = spec.config.dropout

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads: the decoder's, [B, T, D]."""
        assert batch.decoder_tokens is not None, 'an encoder-decoder reads decoder tokens too'
        assert batch.decoder_segment_ids is not None and batch.decoder_positions is not None
        segments_BT = jnp.asarray(batch.decoder_segment_ids)
        starts_BT = jnp.asarray(batch.decoder_positions) == 0
        memory = self._memory(batch, context)

        def run(layer: AttendingCell, x_BTD: HiddenBTD, part: Context) -> HiddenBTD:
            state = layer.cell.start(len(x_BTD), part)
            return layer(x_BTD, segments_BT, starts_BT, state, memory, part)[0]

        x_BTD = self.embedding(batch.decoder_tokens, context)
        return self.decoder(x_BTD, run, context.part(1))

    def encoded(self, batch: Batch, context: Context) -> HiddenBTD:
        """The encoder's hidden states."""
        segments_BT = jnp.asarray(batch.segment_ids)

        def run(layer: BothWays, x_BTD: HiddenBTD, part: Context) -> HiddenBTD:
            return layer(x_BTD, segments_BT, part)

        return self.encoder(self.embedding(batch.tokens, context), run, context.part(0))

    def read(self, batch: Batch, places: int, context: Context) -> LogitsAndRead:
        """As of `Model`; the state is the layers' own, of whatever length, and the encoder's.

        Positions of 0 begin a text, so that of a row only its own tokens are in the state.
        """
        del places
        assert batch.decoder_tokens is not None, 'an encoder-decoder reads decoder tokens too'
        assert batch.decoder_segment_ids is not None and batch.decoder_positions is not None
        rows = len(batch.decoder_tokens)
        states = [layer.cell.start(rows, context) for layer in self._layers]
        read = ReadBoth(
            jax.tree.map(lambda *each_BD: jnp.stack(each_BD), *states),
            self._memory(batch, context),
        )
        return self._through(
            batch.decoder_tokens,
            jnp.asarray(batch.decoder_segment_ids),
            jnp.asarray(batch.decoder_positions) == 0,
            read,
            context,
        )

    def advance(
        self, tokens_B: Int[jax.Array, ' B'], state: ReadBoth, context: Context
    ) -> LogitsAndRead:
        """As of `Model`, of the decoder."""
        one_B1 = jnp.ones((len(tokens_B), 1), jnp.int32)
        return self._through(tokens_B[:, None], one_B1, one_B1 == 0, state, context)

    @property
    def _layers(self) -> list[AttendingCell]:
        return unstacked(self.decoder.layers, self.decoder.spec.config.num_layers)

    def _memory(self, batch: Batch, context: Context) -> Memory:
        return Memory(self.encoded(batch, context), jnp.asarray(batch.segment_ids, jnp.int32))

    def _through(
        self,
        tokens_BT: Int[jax.Array | np.ndarray, 'B T'],
        segments_BT: Int[jax.Array, 'B T'],
        starts_BT: Bool[jax.Array, 'B T'],
        read: ReadBoth,
        context: Context,
    ) -> LogitsAndRead:
        """Logits behind the last token, and the state of all layers there."""
        x_BTD, states = self.embedding(tokens_BT, context), []
        layers: tuple[AttendingCell, State] = (self.decoder.layers, read.states)
        for layer, state in unstacked(layers, self.decoder.spec.config.num_layers):
            x_BTD, state = layer(x_BTD, segments_BT, starts_BT, state, read.memory, context)
            states.append(state)
        logits_BV = self.next_logits(x_BTD, context)
        stacked = jax.tree.map(lambda *each_BD: jnp.stack(each_BD), *states)
        return logits_BV, ReadBoth(stacked, read.memory)


def _begins(segments_BT: Int[jax.Array, 'B T']) -> Bool[jax.Array, 'B T']:
    """Where a segment begins, or padding. By ids, which tell its end too."""
    return jnp.pad(
        segments_BT[:, 1:] != segments_BT[:, :-1], ((0, 0), (1, 0)), constant_values=True
    )
