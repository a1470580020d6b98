"""Models as pure functions of a flat dict of arrays. The one place that splits and merges NNX."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from lm import registry
from lm.batch import Batch
from lm.config import ModelConfig
from lm.errors import UserError
from lm.layout import Layout
from lm.models.context import Context
from lm.models.layers import are_apart, taken_apart
from lm.models.model import Model
from lm.precision.policy import Policy
from lm.shapes import Dims, HiddenBTD, LogitsBTV, Params


@dataclass(frozen=True, eq=False)
class Functional:
    """A model without its parameters.

    Attributes:
      config: its shape.
      family: `encoder`, `decoder` or `encoder_decoder`.
      dims: the dimension letters of each parameter; stacked ones begin with `L`.
      shapes: the shape and dtype of each parameter.
      goes_on: a text may be read token by token, by `read` and `advance`.
      bounded: it sees `max_positions` tokens at most.
      by_policy: a policy decides its products; of a user's own module it does not.
    """

    config: ModelConfig
    family: str
    dims: Dims
    shapes: dict[str, jax.ShapeDtypeStruct]
    goes_on: bool
    bounded: bool
    by_policy: bool
    _graph: Any
    _member: Any
    _policy: Policy
    _layout: Layout

    @property
    def logits_dtype(self) -> DTypeLike:
        """Of the logits that a training step keeps."""
        return self._policy.logits_dtype

    @property
    def splits_rows(self) -> bool:
        """Whether the positions of a row lie on several devices."""
        return self._layout.splits_rows

    def on(self, layout: Layout) -> 'Functional':
        """The same model on another layout."""
        return dataclasses.replace(self, _layout=layout)

    def layer_by_layer(self) -> 'Functional':
        """The same model, whose layers a trace runs one after another, each with its own code."""
        config = dataclasses.replace(self.config, scan_layers=False, remat='none')
        return functional(config, self._policy, self._layout)

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters, a pure function of `key`; to be jitted with its output's shardings."""
        _, state = nnx.split(self._member.build(self.config, nnx.Rngs(key)))
        dtype = self._policy.param_dtype
        return {path: value[...].astype(dtype) for path, value in _flat(state).items()}

    def apply(
        self,
        params: Params,
        batch: Batch,
        *,
        dropout_key: jax.Array | None = None,
        asked_BA: Int[jax.Array, 'B A'] | None = None,
        dtype: DTypeLike = jnp.float32,
    ) -> LogitsBTV:
        """Logits of a batch.

        Args:
          params: as `init` makes them.
          batch: `tokens`, `segment_ids`, `positions` are read, and the `decoder_*` fields by an
            encoder-decoder; other fields are not.
          dropout_key: None switches dropout off.
          asked_BA: the places whose logits are asked for; None: all.
          dtype: of the logits, rounded from sums in fp32.

        Returns:
          [B, T, V], or [B, A, V]; T is the decoder's length where there are two sides, and
          logits of vocabulary padding are -inf.

        Raises:
          UserError: rows longer than a table of learned positions.
        """
        module, policy = self._module(params), self._policy
        given: dict[str, Any] = {
            'layout': self._layout,
            'dropout_key': dropout_key,
            'compute_dtype': policy.compute_dtype,
        }
        with jax.default_matmul_precision(policy.matmul_precision):
            if isinstance(module, Model):
                more: dict[str, Any] = {
                    'asked_BA': asked_BA,
                    'dtype': dtype,
                    'quantization': policy.quantization,
                }
                return module(batch, **given, **more)
            # A user's own, which gives all logits, in fp32.
            logits_BTV = module(batch, **given)
        if asked_BA is not None:
            logits_BTV = jnp.take_along_axis(logits_BTV, asked_BA[:, :, None], axis=1)
        return logits_BTV.astype(dtype)

    def hidden(self, params: Params, batch: Batch) -> HiddenBTD:
        """The states that the head reads, [B, T, D] in the dtype of the computation.

        Arguments as of `apply`; without dropout. T is the decoder's length where there are two
        sides.
        """
        with jax.default_matmul_precision(self._policy.matmul_precision):
            return self._module(params).hidden(batch, self._context)

    def encoded(self, params: Params, batch: Batch) -> HiddenBTD:
        """The same of the side that reads `tokens`: an encoder's where there are two sides."""
        with jax.default_matmul_precision(self._policy.matmul_precision):
            return self._module(params).encoded(batch, self._context)

    def apart(self, params: Params) -> Params:
        """The parameters with the layers of each stack apart, as `read` and `advance` take them.

        Nothing is copied of what is apart already; of what is not, both forms are held while
        `params` is.
        """
        stacks = {
            path: x
            for path, x in params.items()
            if self.dims[path].startswith('L') and not are_apart(x)
        }
        return params | _taken_apart(stacks)

    def read(
        self, params: Params, batch: Batch, places: int
    ) -> tuple[Float[jax.Array, 'B V'], Any]:
        """Reads texts that are to go on: logits of the token after each, and a state.

        Arguments as of `Model.read`. The same logits as `apply` gives at the last place.
        """
        with jax.default_matmul_precision(self._policy.matmul_precision):
            logits_BV, state = self._module(params).read(batch, places, self._context)
            return logits_BV, state

    def advance(
        self, params: Params, tokens_B: Int[jax.Array, ' B'], state: Any
    ) -> tuple[Float[jax.Array, 'B V'], Any]:
        """One more token of each row: logits of the token after it, fp32 [B, V], and the state.

        The same logits as `apply` gives at the last place of the whole row.
        """
        with jax.default_matmul_precision(self._policy.matmul_precision):
            logits_BV, state = self._module(params).advance(tokens_B, state, self._context)
            return logits_BV, state

    @property
    def _context(self) -> Context:
        """Of a forward pass without dropout."""
        policy = self._policy
        return Context(self._layout, policy.compute_dtype, quantization=policy.quantization)

    def _module(self, params: Params) -> Any:
        leaves = [(tuple(path.split('/')), array) for path, array in params.items()]
        state: nnx.State = nnx.from_flat_state(leaves)
        return nnx.merge(self._graph, state)


_ONE_DEVICE = Layout()


def functional(config: ModelConfig, policy: Policy, layout: Layout = _ONE_DEVICE) -> Functional:
    """The model of a config; takes no memory for its parameters, however large.

    Args:
      config: `vocab_size` is set; options not of the architecture's own type are replaced by
        its defaults.
      policy: number formats.
      layout: where activations lie.

    Raises:
      UserError: no such architecture, a size that it cannot have, or a policy that quantizes
        products of a model that is no `lm.models.model.Model`.
    """
    member = registry.lookup('models', config.name, 'model.name')
    if type(config.options) is not member.Options:
        config = dataclasses.replace(config, options=member.Options())
    abstract = jax.eval_shape(lambda key: member.build(config, nnx.Rngs(key)), jax.random.key(0))
    by_policy = isinstance(abstract, Model)
    if policy.quantization is not None and not by_policy:
        raise UserError(
            f'precision.policy={policy.name}: model.name={config.name} is a model of yours whose '
            'products are its own; take a policy of whole dtypes, such as bf16_mixed'
        )
    graph, state = nnx.split(abstract)
    dims, shapes = {}, {}
    for path, param in _flat(state).items():
        shape = param.shape
        stacked = len(shape) > len(param.dims)
        dims[path] = 'L' * stacked + param.dims
        shapes[path] = jax.ShapeDtypeStruct(shape, policy.param_dtype)
    bounded = getattr(abstract, 'bounded', True)
    goes_on = by_policy and _goes_on(type(abstract))
    return Functional(
        config,
        member.FAMILY,
        dims,
        shapes,
        goes_on,
        bounded,
        by_policy,
        graph,
        member,
        policy,
        layout,
    )


@jax.jit
def _taken_apart(stacks: Params) -> Params:
    return {path: jax.tree.map(taken_apart, stack) for path, stack in stacks.items()}


def _goes_on(kind: type[Model]) -> bool:
    """Whether a kind of model reads token by token what it reads at once.

    One of a user's that says anew how a text is read at once, and not how one token more, does not.
    """
    ways = ('hidden', 'read', 'advance')
    own = {next(base for base in kind.__mro__ if way in vars(base)) for way in ways}
    called = next(base for base in kind.__mro__ if '__call__' in vars(base))
    return len(own) == 1 and own != {Model} and called in {Model, *own}


def _flat(state: Any) -> dict[str, Any]:
    return {'/'.join(map(str, path)): param for path, param in nnx.to_flat_state(state)}
