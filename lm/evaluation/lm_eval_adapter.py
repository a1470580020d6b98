"""A model of ours for lm-eval (EleutherAI's LM Evaluation Harness, 0.4): its tasks, our numbers.

    import lm, lm_eval
    from lm.evaluation.lm_eval_adapter import LmEvalModel

    lm_eval.simple_evaluate(LmEvalModel(lm.load('runs/mine')), tasks=['copa'], num_fewshot=2)

A context is read as `lm evaluate --task` reads it, behind bos, and never cut: what does not fit is
refused. lm-eval's own class for transformers cuts it on the left.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lm.errors import UserError
from lm.evaluation.in_context.answers import written
from lm.evaluation.in_context.choices import (
    Continuation,
    continuations,
    log_likelihoods,
    require_likelihoods,
)
from lm.evaluation.in_context.shots import to_write
from lm.generation.begin import Begun
from lm.generation.language_model import LanguageModel

try:
    from lm_eval.api.model import LM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError:
    raise UserError(
        "lm_eval_adapter: needs the package lm_eval; pip install 'lm-lab[lm-eval]'"
    ) from None

WRITTEN = {'until', 'max_gen_toks', 'do_sample', 'temperature'}
"""Settings of a generation that are understood; there is greedy decoding alone."""
MAX_GEN_TOKS = 256
"""Tokens written where a task does not say how many, as lm-eval's own models do."""


class LmEvalModel(LM):
    """What lm-eval asks of a model: likelihoods of texts behind contexts, and greedy answers."""

    def __init__(self, model: LanguageModel, batch_size: int = 16) -> None:
        """
        Args:
          model: a decoder or an encoder-decoder, from `lm.load`.
          batch_size: rows at once.

        Raises:
          UserError: an encoder.
        """
        super().__init__()
        require_likelihoods(model, 'lm_eval_adapter')
        self.model, self.batch_size = model, batch_size

    @property
    def tokenizer_name(self) -> str:
        """Tells lm-eval's cache of prompts which tokenizer they are for."""
        return f'{self.model.config.model.name}-{self.model.tokenizer.vocabulary.size}'

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """log p(text | context) in nats and whether greedy decoding would say it.

        Args:
          requests: lm-eval's instances, whose `args` are a context and a text.

        Raises:
          UserError: a context and its text that do not fit in the model's context.
        """
        asked = [one for request in requests for one in self._continuations(*request.args)]
        found = log_likelihoods(self.model, asked, self.batch_size)
        pairs = zip(found.log_p_N.tolist(), found.greedy_N.tolist(), strict=True)
        return [(log_p, greedy) for log_p, greedy in pairs]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """log p(text) in nats, by windows of the context; the last one is as long as the others.

        Args:
          requests: lm-eval's instances, whose `args` are a text.

        Raises:
          UserError: a model that is not trained by `clm`, for others say no text from its start.
        """
        objective = self.model.config.objective.name
        if objective != 'clm':
            raise UserError(
                f'lm_eval_adapter: a model of objective.name={objective} says no text from its '
                'beginning behind nothing; give one of clm, or take tasks with contexts'
            )
        asked: list[Continuation] = []
        counts = []
        for request in requests:
            windows = list(self._windows(request.args[0]))
            asked += windows
            counts.append(len(windows))
        log_p_N = log_likelihoods(self.model, asked, self.batch_size).log_p_N
        parts = np.split(log_p_N, np.cumsum(counts)[:-1])
        return [float(part.sum()) for part in parts]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """What the model says behind each context, greedily, up to the first of `until`.

        Args:
          requests: lm-eval's instances, whose `args` are a context and settings: `until`, a text or
            a list, and `max_gen_toks`.

        Raises:
          UserError: settings that draw at random, or others than these; a context that does not
            fit with as many new tokens.
        """
        alike: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(_asked(request.args[1]), []).append(number)
        answers = [''] * len(requests)
        for (stop, most), numbers in alike.items():
            contexts = [requests[i].args[0] for i in numbers]
            self._require_room(contexts, most)
            found = written(self.model, contexts, stop, most, self.batch_size)
            for i, answer in zip(numbers, found, strict=True):
                answers[i] = answer
        return answers

    def _require_room(self, contexts: Sequence[str], most: int) -> None:
        for context in contexts:
            longest = to_write(self.model, context, most).length
            if longest > self.model.context:
                raise UserError(
                    f'lm_eval_adapter: {longest} tokens with max_gen_toks={most} do not fit in '
                    f'model.max_positions={self.model.context}; lower it, or num_fewshot'
                )

    def _continuations(self, context: str, text: str) -> list[Continuation]:
        return continuations(self.model, context, [text])

    def _windows(self, text: str) -> list[Continuation]:
        windows = get_rolling_token_windows(
            token_list=self.model.tokenizer.encode(text).tolist(),
            prefix_token=self.model.tokenizer.vocabulary.bos_id,
            max_seq_len=self.model.context,
            context_len=1,
        )
        return [
            Continuation(Begun(np.array(given, np.int32)), np.array(said, np.int32))
            for given, said in map(make_disjoint_window, windows)
        ]


def _asked(settings: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """Where a generation stops, and its most tokens."""
    unknown = sorted(set(settings) - WRITTEN)
    if unknown or (settings.get('do_sample') and settings.get('temperature') != 0):
        raise UserError(
            f'lm_eval_adapter: {", ".join(unknown) or "do_sample=True"}: not understood; answers '
            'are decoded greedily, by until and max_gen_toks'
        )
    until = settings.get('until') or ()
    stop = (until,) if isinstance(until, str) else tuple(until)
    return stop, settings.get('max_gen_toks', MAX_GEN_TOKS)
