"""The backward half of `lm budget`: what a compute is best spent on, by every law at hand."""

import math
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from lm.errors import UserError
from lm.fields import require
from lm.planning.concrete_shape import RULE as SHAPE_RULE
from lm.planning.concrete_shape import ConcreteShape, concrete_shape
from lm.scaling.approaches import FAR, METHODS, Approach, fit_approach
from lm.scaling.data_limited import data_limited_optimum
from lm.scaling.disagreement import compare
from lm.scaling.inference import inference_optimum
from lm.scaling.known_models import KNOWN_MODELS
from lm.scaling.off_optimal import FACTORS, price
from lm.scaling.parametric import ParametricFit
from lm.scaling.published import BESIROGLU, LAWS, LEVEL, TOKENS_PER_PARAM, PublishedLaw, rule_of_20
from lm.scaling.runs import read_runs
from lm.scaling.surface import Surface

from ._fit_json import comparison_json

Told: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Laws:
    """The laws to ask beside the published ones.

    Args:
      own: fits of the user's runs by the approaches that these allow.
      least: the least compute of the runs.
      unavailable: why there is no other, by method.
      surface: the law of the loss that all else is computed from: the user's, or Besiroglu et al.'s
        where there is none.
      level: what intervals of own laws are to cover.
    """

    own: tuple[Approach, ...]
    least: float
    unavailable: dict[str, str]
    surface: Surface
    level: float


PUBLISHED_ALONE = Laws((), 0.0, {}, BESIROGLU, LEVEL)


def laws_of_runs(path: str, resamples: int, seed: int, level: float) -> Laws:
    """The user's own laws, by each approach.

    Raises:
      UserError: the file is wrong, or its runs allow no approach.
    """
    runs = read_runs(path)
    own: list[Approach] = []
    unavailable: dict[str, str] = {}
    surface = BESIROGLU
    for method in METHODS:
        try:
            approach = fit_approach(method, runs, resamples, seed)
            if isinstance(approach.fit, ParametricFit):
                require(approach.fit.converged, 'the fit did not converge; lm fit says more')
                surface = approach.fit.surface
        except UserError as error:
            unavailable[method] = str(error)
        else:
            own.append(approach)
    if not own:
        raise UserError(f'{path}: {unavailable["parametric"]}')
    return Laws(tuple(own), float(runs.compute.min()), unavailable, surface, level)


def best_spent(
    laws: Laws,
    flops: float,
    vocab_size: int,
    inference_tokens: float | None,
    unique_tokens: float | None,
) -> Told:
    """N* and D* by each law, and what follows from the law of the loss."""
    surface = laws.surface
    params, tokens = rule_of_20(flops)
    own: dict[str, Approach] = {approach.method: approach for approach in laws.own}
    return {
        'optimal': [
            *(_own(law, flops, laws) for law in laws.own),
            *(_published(law, flops) for law in LAWS),
        ],
        'unavailable': laws.unavailable,
        'disagreement': [comparison_json(one) for one in compare(own, (flops,), laws.level)],
        'rule_of_20': {'params': params, 'tokens': tokens},
        'law': {'name': surface.name, **surface.constants._asdict()},
        'shape': _shape(surface.best(flops).params, vocab_size),
        'off_optimal': [_price(surface, flops, factor) for factor in FACTORS],
        'inference_optimal': None
        if inference_tokens is None
        else asdict(inference_optimum(surface, flops, inference_tokens)),
        'data_limited': None
        if unique_tokens is None
        else asdict(data_limited_optimum(surface, flops, unique_tokens)),
    }


def price_of(laws: Laws, params: float, tokens: float) -> Told:
    """What a choice costs beside the best of its 6 N D."""
    flops = 6 * params * tokens
    return _price(laws.surface, flops, params / laws.surface.best(flops).params)


def known_models() -> list[Told]:
    """Each model's own parameters and tokens beside the best ones of its 6 N D."""
    return [
        {
            **asdict(model),
            'flops': model.flops,
            'tokens_per_param': model.tokens / model.params,
            'tokens_by_rule_of_20': TOKENS_PER_PARAM * model.params,
            'optimal': [_published(law, model.flops) for law in LAWS],
        }
        for model in KNOWN_MODELS
    ]


def shape_told(shape: ConcreteShape) -> Told:
    """A shape as JSON."""
    config, count = shape.config, shape.count
    return {
        'num_layers': config.num_layers,
        'd_model': config.d_model,
        'd_ff': config.d_ff,
        'num_heads': config.num_heads,
        'head_dim': config.head_width,
        'vocab_size': config.tokens,
        'params': count.total,
        'params_non_embedding': count.non_embedding,
        'off': shape.off,
        'rule': SHAPE_RULE,
    }


def _shape(params: float, vocab_size: int) -> Told:
    try:
        return shape_told(concrete_shape(params, vocab_size))
    except UserError as error:
        return {'unavailable': str(error)}


def _own(approach: Approach, flops: float, laws: Laws) -> Told:
    best = approach.predict(flops, laws.level)
    far = approach.far(flops) or flops < laws.least / FAR
    told = _told(approach.method, flops, best.params, best.tokens, 'your runs', far)
    told['loss'] = best.loss
    if best.intervals:
        told |= {
            'intervals': best.intervals,
            'level': laws.level,
            'interval_of': 'law',
            'interval_source': 'bootstrap of your runs',
        }
    return told


def _published(law: PublishedLaw, flops: float) -> Told:
    params, (least, largest) = law.params_law(flops), law.computes
    far = not least / FAR <= flops <= largest * FAR
    told = _told(law.name, flops, params, flops / 6 / params, law.source, far)
    if law.surface is not None:
        told['loss'] = law.surface.loss(params, told['tokens'])
    if law.spread is not None:
        low, high = law.spread.of_params(law.params_law, flops)
        told |= {
            'intervals': {'params': (low, high), 'tokens': (flops / 6 / high, flops / 6 / low)},
            'level': LEVEL,
            'interval_of': 'exponent' if law.spread.of_exponent_alone else 'law',
            'interval_source': law.spread.source,
        }
    return told


def _told(method: str, flops: float, params: float, tokens: float, source: str, far: bool) -> Told:
    """What every law tells; some also a loss and intervals."""
    return {
        'method': method,
        'flops': flops,
        'params': params,
        'tokens': tokens,
        'tokens_per_param': tokens / params,
        'loss': None,
        'intervals': None,
        'level': None,
        'interval_of': None,
        'interval_source': None,
        'far': far,
        'source': source,
    }


def _price(surface: Surface, flops: float, factor: float) -> Told:
    """JSON has no infinity: None where no number of tokens catches up."""
    told = asdict(price(surface, flops, factor))
    return {name: value if math.isfinite(value) else None for name, value in told.items()}
