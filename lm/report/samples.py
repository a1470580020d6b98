"""What the models of runs make of one prompt."""

from collections.abc import Sequence

from lm.errors import UserError
from lm.generation.begin import BLANK
from lm.generation.sample import generate
from lm.report.page import Sample
from lm.report.recorded import Recorded
from lm.training.evaluate import SAMPLED
from lm.training.load import load_run


def samples_of(runs: Sequence[Recorded], prompt: str, max_new_tokens: int) -> list[Sample]:
    """A sample of each run's newest checkpoint, drawn with the seed 0.

    A model that fills blanks has one put behind a prompt without any.
    """
    return [_sample_of(run, prompt, max_new_tokens) for run in runs]


def _sample_of(run: Recorded, prompt: str, max_new_tokens: int) -> Sample:
    try:
        model = load_run(run.folder.name)
        fill = model.fills_blanks
        if fill and BLANK not in prompt:
            prompt += BLANK
        [text] = generate(
            model, [prompt], max_new_tokens=max_new_tokens, fill=fill, **SAMPLED
        )  # fmt: skip
    except UserError as error:
        return Sample(f'none: {error}', told=False)
    return Sample(text, told=True)
