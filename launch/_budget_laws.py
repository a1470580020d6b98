"""The backward half of `lm budget`: what a compute is best spent on, by every law at hand."""

import math
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from lm.errors import UserError
from lm.planning.concrete_shape import RULE as SHAPE_RULE
from lm.planning.concrete_shape import ConcreteShape, concrete_shape
from lm.scaling.allocation import Fit, optimal_allocation
from lm.scaling.bootstrap import Bootstrap, bootstrap_parametric
from lm.scaling.data_limited import data_limited_optimum
from lm.scaling.envelope import fit_envelope
from lm.scaling.inference import inference_optimum
from lm.scaling.isoflop import fit_isoflop
from lm.scaling.known_models import KNOWN_MODELS
from lm.scaling.off_optimal import FACTORS, price
from lm.scaling.parametric import ParametricFit, fit_parametric
from lm.scaling.published import BESIROGLU, LAWS, LEVEL, TOKENS_PER_PARAM, PublishedLaw, rule_of_20
from lm.scaling.runs import Runs, read_runs
from lm.scaling.surface import Surface

FAR = 10.0
"""So many times beyond the computes of its data, or below them, a law is called far."""

Told: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class OwnLaw:
    """A fit of the user's runs."""

    method: str
    fit: Fit
    resampled: Bootstrap | None


@dataclass(frozen=True)
class Laws:
    """The laws to ask beside the published ones.

    Args:
      own: of the user's runs, those that these allow.
      computes: the least and the largest compute of the runs.
      unavailable: why there is no other, by method.
      surface: the law of the loss that all else is computed from: the user's, or Besiroglu et al.'s
        where there is none.
      level: what intervals of own laws are to cover.
    """

    own: tuple[OwnLaw, ...]
    computes: tuple[float, float]
    unavailable: dict[str, str]
    surface: Surface
    level: float


PUBLISHED_ALONE = Laws((), (0.0, math.inf), {}, BESIROGLU, LEVEL)


def laws_of_runs(path: str, resamples: int, seed: int, level: float) -> Laws:
    """The user's own laws, by each approach.

    Raises:
      UserError: the file is wrong, or its runs allow no approach.
    """
    runs = read_runs(path)
    own, unavailable = [], {}
    for method in ('parametric', 'isoflop', 'envelope'):
        try:
            own.append(_fitted(method, runs, resamples, seed))
        except UserError as error:
            unavailable[method] = str(error)
    if not own:
        raise UserError(f'{path}: {unavailable["parametric"]}')
    fits = [law.fit for law in own if isinstance(law.fit, ParametricFit)]
    surface = Surface('parametric', fits[0].constants) if fits else BESIROGLU
    computes = float(runs.compute.min()), float(runs.compute.max())
    return Laws(tuple(own), computes, unavailable, surface, level)


def _fitted(method: str, runs: Runs, resamples: int, seed: int) -> OwnLaw:
    if method == 'isoflop':
        return OwnLaw(method, fit_isoflop(runs), None)
    if method == 'envelope':
        return OwnLaw(method, fit_envelope(runs), None)
    fit = fit_parametric(runs)
    # A fit without a best size is told as unavailable, not as an error of what is asked of it.
    Surface(method, fit.constants)
    drawn = bootstrap_parametric(runs, fit, resamples, seed) if resamples else None
    return OwnLaw(method, fit, drawn)


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
    return {
        'optimal': [
            *(_own(law, flops, laws) for law in laws.own),
            *(_published(law, flops) for law in LAWS),
        ],
        'unavailable': laws.unavailable,
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


def _own(law: OwnLaw, flops: float, laws: Laws) -> Told:
    best = optimal_allocation(law.fit, flops)
    told = _told(law.method, flops, best.params, 'your runs', laws.computes)
    if isinstance(law.fit, ParametricFit):
        told['loss'] = laws.surface.loss(best.params, best.tokens)
    if law.resampled is not None:
        told |= {
            'intervals': law.resampled.optimal_intervals(flops, laws.level),
            'level': laws.level,
            'interval_source': f'bootstrap of {law.resampled.kept} resamples',
        }
    return told


def _published(law: PublishedLaw, flops: float) -> Told:
    params = law.params_law(flops)
    told = _told(law.name, flops, params, law.source, law.computes)
    if law.surface is not None:
        told['loss'] = law.surface.loss(params, told['tokens'])
    if law.spread is not None:
        low, high = law.spread.of_params(law.params_law, flops)
        told |= {
            'intervals': {'params': (low, high), 'tokens': (flops / 6 / high, flops / 6 / low)},
            'level': LEVEL,
            'interval_source': law.spread.source,
        }
    return told


def _told(
    method: str, flops: float, params: float, source: str, computes: tuple[float, float]
) -> Told:
    """What every law tells; some also a loss and intervals."""
    tokens = flops / 6 / params
    least, largest = computes
    return {
        'method': method,
        'flops': flops,
        'params': params,
        'tokens': tokens,
        'tokens_per_param': tokens / params,
        'loss': None,
        'intervals': None,
        'level': None,
        'interval_source': None,
        'far': not least / FAR <= flops <= largest * FAR,
        'source': source,
    }


def _price(surface: Surface, flops: float, factor: float) -> Told:
    """JSON has no infinity: None where no number of tokens catches up."""
    told = asdict(price(surface, flops, factor))
    return {name: value if math.isfinite(value) else None for name, value in told.items()}
