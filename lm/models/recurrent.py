"""Recurrent language models: a stack of LSTM or GRU layers over the positions of a row.

A layer multiplies the inputs of all positions at once; only the product with the state waits for
the position before. The state is zero where a segment begins, so that rows may be packed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int

from lm.arithmetic import Arithmetic
from lm.batch import Batch
from lm.models.apart import Index, unstacked
from lm.models.context import Context
from lm.models.embedding import Embedding, Head
from lm.models.layers import run_layers
from lm.models.model import Model
from lm.models.recurrent_spec import CellKind, RecurrentSpec, Width
from lm.shapes import HiddenBTD, TokensBT

State: TypeAlias = tuple[jax.Array, ...]
"""What a cell hands to its next position, fp32 [B, D] each: what it gives out comes first."""

Turn: TypeAlias = Callable[[jax.Array, jax.Array, State], State]
"""What the gates do at a position: what they read [B, Q, D], the product with the state, the state
before it -> the state after it, all fp32."""

INPUT_DROPOUT_SITE, FINAL_DROPOUT_SITE = 0, 1


@dataclass(frozen=True)
class Gates:
    """How a position is computed.

    Attributes:
      turn: what the gates do.
      kept: of what they read, the places that the products with the state are added to.
      precision: of the products; a gradient by hand does not see that of the forward pass.
    """

    turn: Turn
    kept: tuple[int, ...]
    precision: str | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(
    gates: Gates,
    read_TBQD: Float[jax.Array, 'T B Q D'],
    starts_TB: Bool[jax.Array, 'T B'],
    state: State,
    weight_DQD: Float[jax.Array, 'D K D'],
) -> tuple[Float[jax.Array, 'T B D'], State]:
    """A cell over the positions in turn.

    The weight's gradient is one product behind the loop, of all positions. Left to itself, it is
    summed within the loop, and on a mesh over the devices at every position.

    Args:
      gates: how a position is computed.
      read_TBQD: what the gates read beside the state.
      starts_TB: where a segment begins, whose state is zero.
      state: before the first position.
      weight_DQD: multiplies the state's first array, in its own dtype.

    Returns:
      The state's first array after each position, in the weight's dtype, and the last state.
    """
    return _forward(gates, read_TBQD, starts_TB, state, weight_DQD)[0]


def _forward(
    gates: Gates,
    read_TBQD: jax.Array,
    starts_TB: jax.Array,
    state: State,
    weight_DQD: jax.Array,
) -> tuple[tuple[jax.Array, State], Any]:
    dtype = weight_DQD.dtype

    def position(state: State, given: tuple[jax.Array, jax.Array]) -> tuple[State, Any]:
        read_BQD, starts_B = given
        state = tuple(jnp.where(starts_B[:, None], 0, x_BD) for x_BD in state)
        before_BD = state[0].astype(dtype)
        kept_BQD = jnp.einsum('BD,DQE->BQE', before_BD, weight_DQD, precision=gates.precision)
        kept_BQD = kept_BQD.astype(jnp.float32)
        state = gates.turn(read_BQD.astype(jnp.float32), kept_BQD, state)
        return state, (state[0].astype(dtype), before_BD)

    def loop(read_TBQD: jax.Array, state: State) -> tuple[tuple[jax.Array, State], jax.Array]:
        state, (y_TBD, before_TBD) = jax.lax.scan(position, state, (read_TBQD, starts_TB))
        return (y_TBD, state), before_TBD

    given, pull, before_TBD = jax.vjp(loop, read_TBQD, state, has_aux=True)
    return given, (pull, before_TBD)


def _backward(
    gates: Gates, saved: Any, gradient: tuple[jax.Array, State]
) -> tuple[jax.Array, None, State, jax.Array]:
    pull, before_TBD = saved
    read_TBQD, state = pull(gradient)
    kept_TBQD = jnp.stack([read_TBQD[:, :, q] for q in gates.kept], axis=2)
    weight_DQD = jnp.einsum(
        'TBD,TBQE->DQE',
        before_TBD,
        kept_TBQD.astype(before_TBD.dtype),
        precision=gates.precision,
    )
    return read_TBQD, None, state, weight_DQD


recurrence.defvjp(_forward, _backward)


class Cell(nnx.Module):
    """One recurrent layer: what it multiplies with, and how it runs over the positions.

    The matrices of all gates lie side by side, from D to Q x D, so that each of the two products
    is one.
    """

    arrays: ClassVar[int]
    """In its state."""
    kept: ClassVar[tuple[int, ...]]
    """Of what a position reads, the places that the products with the state are added to."""

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs, letter: Width = 'D'):
        """
        Args:
          spec: the model's.
          rngs: for its matrices.
          letter: of the width of its state; what it reads is D wide.
        """
        d, e, q, init = spec.config.d_model, spec.widths[letter], spec.gates, spec.init.cell
        read, kept = f'DQ{letter}', f'{letter}Q{letter}'
        self.input = nnx.Param(init(rngs.params(), (d, q, e), jnp.float32), dims=read)
        self.recurrent = nnx.Param(init(rngs.params(), (e, q, e), jnp.float32), dims=kept)
        self.bias = nnx.Param(jnp.zeros((q, e)), dims=f'Q{letter}')

    @staticmethod
    def turn(read_BQD: jax.Array, kept_BQD: jax.Array, state: State) -> State:
        """As `Turn`."""
        raise NotImplementedError

    def read(self, x_BTD: HiddenBTD, context: Context) -> Float[jax.Array, 'T B Q E']:
        """What the gates read of all positions: the input's products, and biases."""
        read_TBQE = context.product('BTD,DQE->TBQE', x_BTD, self.input)
        return read_TBQE + context.cast(self.bias)

    def start(self, rows: int, context: Context) -> State:
        """The state before a segment: zeros."""
        zeros_BE = jnp.zeros((rows, self.bias.shape[-1]), jnp.float32)
        return (context.layout.constrain(zeros_BE, 'BE'),) * self.arrays

    def __call__(
        self,
        x_BTD: HiddenBTD,
        starts_BT: Bool[jax.Array, 'B T'],
        state: State,
        context: Context,
    ) -> tuple[Float[jax.Array, 'B T E'], State]:
        """Runs over the positions in turn.

        Args:
          x_BTD: the input.
          starts_BT: where a segment begins, whose state is zero.
          state: before the first position.
          context: the forward pass.

        Returns:
          What it gives out at each position, as wide as its state, and the state after the last.
        """
        y_TBE, state = recurrence(
            Gates(self.turn, self.kept, Arithmetic.here(None).precision),
            self.read(x_BTD, context),
            starts_BT.T,
            state,
            context.cast(self.recurrent),
        )
        return context.layout.constrain(jnp.moveaxis(y_TBE, 0, 1), 'BTE'), state


class LSTMCell(Cell):
    """Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; no peepholes.

    c' = f * c + i * g, h' = o * tanh(c'), where i, f, o are sigmoids and g a tanh.
    """

    arrays = 2
    kept = (0, 1, 2, 3)

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs, letter: Width = 'D'):
        super().__init__(spec, rngs, letter)
        self.bias[...] = self.bias[...].at[1].set(spec.forget_bias)

    @staticmethod
    def turn(read_BQD: jax.Array, kept_BQD: jax.Array, state: State) -> State:
        """The gates are i, f, g, o, the state h and c."""
        i_BD, f_BD, g_BD, o_BD = jnp.moveaxis(read_BQD + kept_BQD, 1, 0)
        memory_BD = jax.nn.sigmoid(f_BD) * state[1] + jax.nn.sigmoid(i_BD) * jnp.tanh(g_BD)
        return jax.nn.sigmoid(o_BD) * jnp.tanh(memory_BD), memory_BD


class GRUCell(Cell):
    """Cho et al. 2014, section 2.3, with the reset gate after the product with the state.

    h' = (1 - z) * n + z * h, n = tanh(W x + b + r * (U h + b')), where r and z are sigmoids. The
    paper resets before the product, U (r * h); after it, all products with the state are one, as in
    cuDNN.
    """

    arrays = 1
    kept = (0, 1, 3)

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs, letter: Width = 'D'):
        super().__init__(spec, rngs, letter)
        self.reset_bias = nnx.Param(jnp.zeros((spec.widths[letter],)), dims=letter)

    def read(self, x_BTD: HiddenBTD, context: Context) -> Float[jax.Array, 'T B Q E']:
        """Behind the three gates' own, what is added to n's product with the state."""
        read_TBQE = super().read(x_BTD, context)
        shift_E = context.cast(self.reset_bias)
        shift_TBQE = jnp.broadcast_to(shift_E, (*read_TBQE.shape[:2], 1, *shift_E.shape))
        return jnp.concatenate([read_TBQE, shift_TBQE], axis=2)

    @staticmethod
    def turn(read_BQD: jax.Array, kept_BQD: jax.Array, state: State) -> State:
        """The gates are r, z, n, the state h."""
        r_BD, z_BD = jnp.moveaxis(jax.nn.sigmoid(read_BQD[:, :2] + kept_BQD[:, :2]), 1, 0)
        n_BD = jnp.tanh(read_BQD[:, 2] + r_BD * (kept_BQD[:, 2] + read_BQD[:, 3]))
        return ((1 - z_BD) * n_BD + z_BD * state[0],)


CELLS: dict[CellKind, type[Cell]] = {'lstm': LSTMCell, 'gru': GRUCell}


Run: TypeAlias = Callable[[Any, HiddenBTD, Context], HiddenBTD]
"""A layer's work: the layer, what it reads and its part of the forward pass -> what it gives."""


class RecurrentStack(nnx.Module):
    """Layers that each read what the one below gives out, stacked along a leading axis L.

    Dropout on what passes between layers, and to and from them, never on what passes between
    positions (Zaremba et al. 2014, section 3.2).
    """

    def __init__(
        self, spec: RecurrentSpec, rngs: nnx.Rngs, layer: Callable[[nnx.Rngs], nnx.Module]
    ):
        """
        Args:
          spec: the model's.
          rngs: for its layers.
          layer: makes one.
        """
        keys = jax.random.split(rngs.params(), spec.config.num_layers)
        self.layers: Any = jax.vmap(lambda key: layer(nnx.Rngs(key)))(keys)
        self.spec = spec

    def __call__(self, x_BTD: HiddenBTD, run: Run, context: Context) -> HiddenBTD:
        """[B, T, D] -> [B, T, D]; `run` is what each layer does."""
        config = self.spec.config

        def step(layer: nnx.Module, x_BTD: jax.Array, index: Index) -> jax.Array:
            part = context.part(index + 1)
            return run(layer, part.drop(x_BTD, INPUT_DROPOUT_SITE), part)

        x_BTD = run_layers(
            self.layers,
            context.layout.constrain(x_BTD, 'BTD'),
            step,
            num_layers=config.num_layers,
            scan=config.scan_layers,
            unroll=config.scan_unroll,
            remat=config.remat,
            gathers=context.layout.gathers_weights,
        )
        return context.part(0).drop(x_BTD, FINAL_DROPOUT_SITE)


def restarted(starts_BT: Bool[jax.Array, 'B T']) -> Run:
    """What a layer that is a cell does: it begins anew where `starts_BT` is true."""

    def run(cell: Cell, x_BTD: HiddenBTD, context: Context) -> Float[jax.Array, 'B T E']:
        return cell(x_BTD, starts_BT, cell.start(len(x_BTD), context), context)[0]

    return run


class Read(NamedTuple):
    """What recurrent layers keep of the tokens that they have read.

    Attributes:
      states: each array [L, B, D].
    """

    states: State

    def reordered(self, rows_B: Int[jax.Array, ' C']) -> 'Read':
        """The state of other rows: C of those that there are, some of them more than once."""
        return Read(tuple(jnp.take(x_LBD, rows_B, axis=1) for x_LBD in self.states))


class RecurrentModel(Model):
    """Embedding, recurrent layers, and a head that predicts the token after each position."""

    bounded = False  # the state has read all, however long

    def __init__(self, spec: RecurrentSpec, rngs: nnx.Rngs):
        self.embedding = Embedding(spec, rngs)
        self.decoder = RecurrentStack(spec, rngs, partial(CELLS[spec.cell], spec))
        self.head = Head(spec, rngs)
        self.dropout = spec.config.dropout

    def hidden(self, batch: Batch, context: Context) -> HiddenBTD:
        """What the head reads, [B, T, D]."""
        assert batch.prefix is None, 'a recurrent model sees no prefix both ways'
        starts_BT = jnp.asarray(batch.positions) == 0
        return self.decoder(self.embedding(batch.tokens, context), restarted(starts_BT), context)

    def read(
        self, batch: Batch, places: int, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Read]:
        """As of `Model`; the state is the layers' own, of whatever length.

        Positions of 0 begin a text, so that of a row only its own tokens are in the state.
        """
        del places
        layers: list[Cell] = unstacked(self.decoder.layers, self.decoder.spec.config.num_layers)
        states = [layer.start(len(batch.tokens), context) for layer in layers]
        read = Read(jax.tree.map(lambda *each_BD: jnp.stack(each_BD), *states))
        return self._through(batch.tokens, jnp.asarray(batch.positions) == 0, read, context)

    def advance(
        self, tokens_B: Int[jax.Array, ' B'], state: Read, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Read]:
        """As of `Model`."""
        going_on_B1 = jnp.zeros((len(tokens_B), 1), bool)
        return self._through(tokens_B[:, None], going_on_B1, state, context)

    def _through(
        self, tokens_BT: TokensBT, starts_BT: jax.Array, read: Read, context: Context
    ) -> tuple[Float[jax.Array, 'B V'], Read]:
        """Logits behind the last token, and the state of all layers there."""

        x_BTD, states = self.embedding(tokens_BT, context), []
        layers: tuple[Cell, State] = (self.decoder.layers, read.states)
        for layer, state in unstacked(layers, self.decoder.spec.config.num_layers):
            x_BTD, state = layer(x_BTD, starts_BT, state, context)
            states.append(state)
        logits_BV = self.next_logits(x_BTD, context)
        return logits_BV, Read(jax.tree.map(lambda *each_BD: jnp.stack(each_BD), *states))
