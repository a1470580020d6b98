"""How is a word pronounced? T5, BART and an LSTM with attention learn it at equal FLOPs.

Command: python -m experiments.g2p --source=cmudict.dict --workdir=DIR
Hardware: 2 CPU cores.
Time: an hour and a half on one core: of each model 16 minutes of training, 3 of trying rates and 3
    of testing.
Expected: after 1.6 epochs T5 says 10 % of phonemes and 39 % of words wrong, BART 11 % and 42 %, the
    LSTM, which learns fastest, 8 % and 34 %; the published transformer
    (Yolchuyeva et al. 2019) about 5 % and 22 %. All fall as FLOPs grow.

The published figures are of another version of the dictionary and another split; stress is left
out, as here without `--stress`. A word is right if any of its pronunciations is said; phonemes are
counted against the nearest. Each model has about as many FLOPs an example as the others, by the
exact count of `lm.planning`, with padding, and as many steps as `--flops` pay for: it sees as many
examples as they, within a hundredth. Each is trained at the rate that did best among its RATES on
held-out words in a run of a tenth of the FLOPs.

Each run is a folder of DIR; the same command goes on where it was stopped.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm
from lm.config import Config, require, setting
from lm.evaluation.measures.edit_distance import sequence_error_rate, token_error_rate
from lm.flags import Flags
from lm.planning.budget import step_flops
from lm.planning.flops import train_flops_exact
from lm.resolution import override

from ._command import own_folder, run_command
from ._g2p import (
    Pronunciation,
    drawn,
    in_graphemes,
    part_of,
    read_dictionary,
    write_examples,
    write_tokenizer,
)

PLACES = 24
"""Of a row: all words but one of 28 letters, and all their phonemes, with eos."""

MODELS: dict[str, dict[str, Any]] = {
    't5': {'model.d_model': 128, 'model.num_heads': 4},
    'bart': {'model.d_model': 128, 'model.num_heads': 4, 'model.d_ff': 528},
    'lstm_seq2seq': {'model.d_model': 168, 'model.num_heads': 1},
}
"""Sizes of three layers on each side that cost as much; about 1.4 million parameters."""

RATES = {'t5': (1e-3, 2e-3), 'bart': (1e-3, 2e-3), 'lstm_seq2seq': (5e-3, 1e-2)}
"""Peak learning rates that are tried."""

TRIED = 0.1
"""Share of a run's FLOPs that each rate is tried with."""


@dataclass(frozen=True)
class Setting:
    """The study's size; every field is a flag."""

    source: str = setting('', 'the dictionary: cmudict.dict')
    stress: bool = setting(False, 'vowels are said with their stress')
    flops: float = setting(4e13, 'of each run')
    batch_size: int = setting(64, 'words a step')
    dropout: float = setting(0.0, 'of each model; more than none pays from a few epochs on')
    beams: int = setting(5, 'width of the search, beside the likeliest phoneme each time')
    words: int | None = setting(None, 'words of the test part to test on, drawn; unset: all')

    def __post_init__(self) -> None:
        require(self.words is None or self.words >= 1, f'words={self.words}: must be at least 1')


def configs(
    study: Setting, examples: Mapping[str, Path], tokenizer: Path, vocab_size: int
) -> dict[str, tuple[Config, ...]]:
    """By model a run for each of its rates; they differ in nothing else.

    Args:
      study: its size.
      examples: the files of the parts.
      tokenizer: a file in which each grapheme and phoneme is a token.
      vocab_size: its ids, and those of padding, bos and eos.

    Raises:
      UserError: the FLOPs are less than ten steps of a model take.
    """
    found = {}
    for model, sizes in MODELS.items():
        config = lm.load_config(
            't5_tiny',
            **{
                'model.name': model,
                'model.num_layers': 3,
                'model.d_ff': None,
                'model.dropout': study.dropout,
                'model.vocab_size': vocab_size,
                'model.vocab_multiple': 1,
                'model.max_positions': PLACES,
                **sizes,
                'objective.name': 'text_to_text',
                'objective.options.truncate': True,
                'data.source': str(examples['train']),
                'data.validation_source': str(examples['validation']),
                'data.tokenizer': str(tokenizer),
                'optim.weight_decay': 0.01,
                'train.seq_len': PLACES,
                'train.batch_size': study.batch_size,
                'eval.every_steps': 10**9,
                'eval.sample_tokens': 0,
                'checkpoint.every_steps': 10**9,
                'mesh.devices': 1,
                'precision.policy': 'fp32',
            },
        )
        steps = int(study.flops // step_flops(config, train_flops_exact))
        require(
            steps >= 10,
            f'flops={study.flops:g}: less than ten steps of {model}; give more, or a smaller '
            'batch_size',
        )
        found[model] = tuple(
            override(
                config,
                {
                    'optim.peak_lr': rate,
                    'train.steps': steps,
                    'optim.warmup_steps': max(steps // 10, 1),
                },
            )
            for rate in RATES[model]
        )
    return found


def chosen(runs: Sequence[Config], folder: Path) -> Config:
    """That of the runs whose rate is best on held-out words after a share of its steps."""
    losses = []
    for config in runs:
        steps = max(round(TRIED * config.train.steps), 2)
        changes = {'train.steps': steps, 'optim.warmup_steps': max(steps // 10, 1)}
        tried = folder / f'{config.model.name}_{config.optim.peak_lr:g}_tried'
        losses.append(lm.train(override(config, changes), tried)['eval_loss'])
    return runs[losses.index(min(losses))]


def error_rates(said: Sequence[str], right: Sequence[Sequence[Pronunciation]]) -> dict[str, float]:
    """Of phonemes and of words, the second with its standard error over words; in percent."""
    answers = [tuple(text.split()) for text in said]
    wrong = sequence_error_rate(answers, right)
    return {
        'phonemes': 100 * token_error_rate(answers, right),
        'words': 100 * wrong,
        'words_standard_error': 100 * math.sqrt(wrong * (1 - wrong) / len(answers)),
    }


def tested(folder: Path, words: Mapping[str, list[Pronunciation]], beams: int) -> dict[str, Any]:
    """The error rates of a run on words, by the way in which it says them."""
    model, right = lm.load(folder), list(words.values())
    asked = [' '.join(word) for word in words]
    ways: dict[str, dict[str, Any]] = {
        'greedy': {'temperature': 0},
        f'beams_{beams}': {'num_beams': beams},
    }
    return {
        way: error_rates(lm.generate(model, asked, max_new_tokens=PLACES - 1, **how), right)
        for way, how in ways.items()
    }


def run(study: Setting, folder: Path) -> dict[str, dict[str, Any]]:
    """Trains each model, or goes on with it, and asks it the words of the test part."""
    words = in_graphemes(read_dictionary(study.source, stress=study.stress))
    examples = write_examples(words, folder / 'examples')
    tokenizer, vocab_size = write_tokenizer(words, folder / 'examples')
    test = {word: said for word, said in words.items() if part_of(word) == 'test'}
    test = {word: test[word] for word in sorted(test, key=drawn)[: study.words]}
    found = {}
    for name, runs in configs(study, examples, tokenizer, vocab_size).items():
        print(name, file=sys.stderr)
        config = chosen(runs, folder)
        summary = lm.train(config, folder / name)
        found[name] = {
            'params': summary['params'],
            'flops_per_example': step_flops(config, train_flops_exact) / study.batch_size,
            'steps': config.train.steps,
            'peak_lr': config.optim.peak_lr,
            'eval_loss': summary['eval_loss'],
            'words': len(test),
            'error_rates': tested(folder / name, test, study.beams),
        }
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The result for a reader, as Markdown; error rates in percent."""
    ways = list(next(iter(found.values()))['error_rates'])
    head = ['', 'params', 'FLOPs an example', 'steps', 'rate', 'loss']
    head += [f'{way}: phonemes, words' for way in ways]
    lines = ['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|']
    for name, row in found.items():
        rates = ' | '.join(
            f'{told["phonemes"]:.2f}, {told["words"]:.1f} ± {told["words_standard_error"]:.1f}'
            for told in row['error_rates'].values()
        )
        lines.append(
            f'| {name} | {row["params"]:,} | {row["flops_per_example"]:.3g} | {row["steps"]} | '
            f'{row["peak_lr"]:g} | {row["eval_loss"]:.3f} | {rates} |'
        )
    return '\n'.join(lines)


def main() -> int:
    """Prints the table on stderr and the result as one JSON object."""
    return run_command('g2p', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', "the folder of the runs' folders")


def _run(flags: Flags) -> dict[str, Any]:
    flags.required('source')
    found = run(flags.setting(Setting), own_folder(flags))
    print(table(found), file=sys.stderr)
    return found


if __name__ == '__main__':
    sys.exit(main())
