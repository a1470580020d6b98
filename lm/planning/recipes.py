"""How many bytes a parameter takes while it is trained, by recipe. Imports no jax."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from lm import registry
from lm.config import Config, require
from lm.errors import did_you_mean
from lm.planning.parameters import ModelShape, model_shape
from lm.precision.policy import POLICIES

Kept = Callable[[str], tuple[str, ...]]
"""The letters of a parameter -> those of each array that the optimizer keeps of it."""

BYTES = {'float32': 4, 'bfloat16': 2, 'float16': 2}
"""Of a number."""


@dataclass(frozen=True)
class Recipe:
    """Bytes a parameter, before anything is split over devices.

    Attributes:
      name: as `--recipe` takes it.
      weights: the parameter as it lies between steps.
      gradients: its gradient.
      optimizer: what the optimizer keeps of it, a copy of higher precision too; a mean, where it
        is not the same of all parameters.
      compute: one number of an activation, or of a weight as a matrix product reads it.
      temporaries: activations and all else, where a rule of thumb counts them by the parameter;
        no stage of ZeRO splits them.
      source: who says so.
      kept: of which arrays `optimizer` is the mean; None: of no array in particular.
      number: bytes of a number in these arrays.
      dtype: of the products, where `compute` leaves it open.
    """

    name: str
    weights: int
    gradients: int
    optimizer: float
    compute: int
    temporaries: int
    source: str
    kept: Kept | None = None
    number: int = 4
    dtype: str = ''

    @property
    def products(self) -> str:
        """The dtype of the products: a key of a device's peaks."""
        return self.dtype or ('float32' if self.compute == 4 else 'bfloat16')

    @property
    def cast(self) -> int:
        """Bytes of a transient copy of the weight in the dtype of the computation."""
        return self.compute if self.compute != self.weights else 0

    @property
    def total(self) -> float:
        """Bytes a parameter in all, on one device."""
        return self.weights + self.gradients + self.optimizer + self.cast + self.temporaries


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe('fp32_adam', 4, 4, 8, 4, 0, 'all in fp32: the policy fp32 with AdamW'),
        Recipe('bf16_mixed', 4, 4, 8, 2, 0, 'fp32 kept, bf16 computed: bf16_mixed with AdamW'),
        Recipe('mixed_adam', 2, 2, 12, 2, 0, 'Rajbhandari et al. 2020 (ZeRO), section 3.1'),
        Recipe('textbook', 4, 4, 8, 4, 8, 'Hugging Face, "Model training anatomy"'),
        Recipe('often_quoted', 4, 4, 8, 4, 64, 'courses on language models; no primary source'),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
      UserError: there is none.
    """
    require(name in RECIPES, f'recipe={name}: no such recipe{did_you_mean(name, [*RECIPES])}')
    return RECIPES[name]


def recipe_of(config: Config) -> Recipe:
    """What `lm train` would keep of a parameter of `config`; `auto` is taken for bf16_mixed.

    Raises:
      UserError: how much the optimizer keeps is not known here.
    """
    name = config.optim.name
    member = registry.lookup('optimizers', name, 'optim.name')
    require(
        hasattr(member, 'kept'),
        f'optim.name={name}: its state is not known in closed form; give a recipe',
    )
    kept = functools.partial(member.kept, config.optim.options)
    asked = config.precision.policy
    policy = POLICIES['bf16_mixed' if asked == 'auto' else asked]
    weights, compute = BYTES[policy.param_dtype], BYTES[policy.compute_dtype]
    number = 4 if getattr(member, 'KEEPS_FP32', False) else weights
    mean = number * _mean_kept(model_shape(config.model), kept)
    words = f'{policy.name} with {name}'
    return Recipe(
        words, weights, weights, mean, compute, 0, 'the config', kept, number, policy.peak
    )


def kept_size(array: str, letters: str, shape: tuple[int, ...]) -> int:
    """Numbers in an array that an optimizer keeps of a parameter, by the letters of both."""
    sizes = dict(zip(letters, shape, strict=True))
    return math.prod(sizes[letter] for letter in array)


def _mean_kept(model: ModelShape, kept: Kept) -> float:
    """Numbers a parameter in the optimizer's arrays, the vocabulary's padding included."""
    shapes = {path: array.shape for path, array in model.shapes.items()}
    numbers = sum(
        kept_size(array, letters, shapes[path])
        for path, letters in model.dims.items()
        for array in kept(letters)
    )
    return numbers / sum(map(math.prod, shapes.values()))
