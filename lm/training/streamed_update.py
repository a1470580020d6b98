"""The optimizer's update where its state lies in the host's memory: a layer at a time.

A loop over the stacked layers fetches the state of one, updates it and puts it back, so that a
device holds the state of a layer or two. To fetch all of it at once would gain nothing: a compiler
then has the whole state on the device beside everything else (docs/LOG.md, "Host offload").
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from lm.errors import UserError
from lm.mesh.host_offload import in_host_memory
from lm.mesh.placement import Placement
from lm.shapes import Dims, Params
from lm.training.digest import by_path, path_words
from lm.training.update import Taking, Update, taken

Flat = dict[str, Any]
"""An optimizer's state by the paths of its leaves, `0/mu/embedding/tokens`."""


def streamed_update(
    optimizer_of: Callable[[Dims], optax.GradientTransformation],
    placement: Placement,
    dims: Dims,
    name: str,
) -> Update:
    """The update of a state that `placement` lays in the host's memory.

    Args:
      optimizer_of: the optimizer of some parameters, by their letters.
      placement: of the whole state.
      dims: letters of all parameters; those of stacked layers begin with L.
      name: of the optimizer, for the error.

    Raises:
      UserError: what the optimizer keeps of stacked layers is not a part for each layer.
    """
    layers = {path: letters[1:] for path, letters in dims.items() if letters.startswith('L')}
    rest = {path: letters for path, letters in dims.items() if path not in layers}
    one_layer = Part.of(optimizer_of(layers), placement, layers, layer=True)
    others = Part.of(optimizer_of(rest), placement, rest)
    whole = Part.of(optimizer_of(dims), placement, dims)
    count = next((placement.shapes[path].shape[0] for path in layers), 0)
    _require_parts(name, count, whole, one_layer, others)

    def update(
        gradients: Params, opt_state: Any, params: Params, taking: Taking
    ) -> tuple[Params, Any]:
        flat = by_path(opt_state)
        params_rest, state_rest = others.update(gradients, flat, params, taking)

        stacked = tuple(one_layer.lies)

        def turn(state: Flat, one: tuple[jax.Array, Params, Params]) -> tuple[Flat, Params]:
            layer, gradients, params = one
            own = {
                path: jax.lax.dynamic_index_in_dim(state[path], layer, keepdims=False)
                for path in stacked
            }
            # Every layer begins with the same counters and counts once.
            part = taking.part(layer)
            params, new = one_layer.update(gradients, {**flat, **own}, params, part)
            # Written in place: as outputs of the loop the host would hold them a second time.
            for path in stacked:
                new[path] = jax.lax.dynamic_update_index_in_dim(state[path], new[path], layer, 0)
            return new, params

        begun = {path: flat[path] for path in by_path(one_layer.like)}
        over = (_only(gradients, layers), _only(params, layers))
        state_layers, params_layers = jax.lax.scan(turn, begun, (jnp.arange(count), *over))
        state = whole.tree({**state_rest, **state_layers})
        return {**params_rest, **params_layers}, state

    return update


@dataclass(frozen=True, eq=False)
class Part:
    """The optimizer of some of the parameters, its state coming from the host and going back.

    Attributes:
      optimizer: of these parameters.
      paths: of these parameters.
      like: the shapes of its state.
      lies: where each leaf that belongs to a parameter lies while it is updated, by path.
    """

    optimizer: optax.GradientTransformation
    paths: tuple[str, ...]
    like: Any
    lies: dict[str, NamedSharding]

    @classmethod
    def of(
        cls,
        optimizer: optax.GradientTransformation,
        placement: Placement,
        dims: Dims,
        *,
        layer: bool = False,
    ) -> 'Part':
        """Of the parameters of `dims`, whole or in each turn one layer of them."""

        def one(x: Any) -> Any:
            return jax.ShapeDtypeStruct(x.shape[1:] if layer else x.shape, x.dtype)

        shapes = {path: one(placement.shapes[path]) for path in dims}
        like = jax.eval_shape(optimizer.init, shapes)
        lies = {}
        for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
            owner = placement.owner(path)
            if owner is None:
                continue
            own = placement.updated[owner] if leaf.shape == shapes[owner].shape else None
            if own is not None and layer:
                own = placement.layout.sharding(PartitionSpec(*own.spec[1:]))
            lies[path_words(path)] = own or placement.layout.replicated
        return cls(optimizer, tuple(dims), like, lies)

    def tree(self, flat: Flat) -> Any:
        """The state as the optimizer knows it."""
        return jax.tree_util.tree_map_with_path(lambda p, _: flat[path_words(p)], self.like)

    def update(
        self, gradients: Params, flat: Flat, params: Params, taking: Taking
    ) -> tuple[Params, Flat]:
        """These parameters and their state after the update; of what is given the rest is unread.

        Args:
          gradients, params: on the device.
          flat: the state, in the host's memory; it is there again when it is returned.
          taking: how the update is taken.
        """
        fetched = {path: jax.device_put(flat[path], lie) for path, lie in self.lies.items()}
        state = self.tree({**flat, **fetched})
        params = _only(params, self.paths)
        gradients = _only(gradients, self.paths)
        params, state = taken(self.optimizer, gradients, state, params, taking)
        new = by_path(state)
        for path, lie in self.lies.items():
            new[path] = jax.device_put(new[path], in_host_memory(lie))
        return params, new


def _only(tree: Params, paths: Any) -> Params:
    return {path: tree[path] for path in paths}


def _require_parts(name: str, layers: int, whole: Part, layer: Part, others: Part) -> None:
    """Refuses an optimizer whose state of all parameters is not made of these two."""
    kept, of_layer, of_others = (by_path(part.like) for part in (whole, layer, others))
    for path, leaf in kept.items():
        stacked = path in layer.lies and leaf.shape == (layers, *of_layer[path].shape)
        single = path in others.lies and leaf.shape == of_others[path].shape
        counter = path not in whole.lies and path in of_layer
        if not (stacked or single or counter):
            raise UserError(
                f'mesh.offload=optimizer: optim.name={name} keeps {path} of shape {leaf.shape}, '
                'which is not one part a layer; set mesh.offload=none'
            )
