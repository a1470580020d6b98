"""lm-eval's tasks, templates and metrics over our model, against `lm evaluate --task`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from lm.errors import UserError
from lm.evaluation.in_context.answers import written
from lm.evaluation.in_context.evaluate import score_task
from lm.evaluation.in_context.records import read_records
from lm.evaluation.in_context.task import read_task
from lm.training.convert import convert
from lm.training.load import load_run
from tests.data.corpora import corpus
from tests.generation.tiny import Letters, language_model

lm_eval = pytest.importorskip('lm_eval', reason='needs lm_eval, of the extra lm-eval')
pytest.importorskip('lm_eval.tasks')

from lm.evaluation.lm_eval_adapter import LmEvalModel  # noqa: E402


class Request:
    def __init__(self, *args: Any) -> None:
        self.args = args


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr('datasets.config.HF_DATASETS_CACHE', tmp_path / 'cache')
    monkeypatch.setattr('datasets.config.HF_HUB_OFFLINE', True)


def their_results(model: Any, task: dict[str, Any], num_shots: int) -> Any:
    """What lm-eval makes of a task that a dict says as its YAML would."""
    local = {'dataset_path': 'json', 'output_type': 'multiple_choice', 'test_split': 'test'}
    return lm_eval.simple_evaluate(
        LmEvalModel(model), tasks=[{**local, **task}], num_fewshot=num_shots, bootstrap_iters=0,
        # Without its own thousands of tasks, which take half a minute to list.
        task_manager=lm_eval.tasks.TaskManager(include_defaults=False), verbosity='ERROR',
    )  # fmt: skip


@pytest.fixture(scope='module')
def stories(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The trained LLaMA of 260,032 parameters."""
    source, tokens = corpus('checkpoints/stories260K.bin'), corpus('checkpoints/tok512.bin')
    folder = tmp_path_factory.mktemp('stories') / 'run'
    convert(source, folder, tokens, shard_bytes=10**9)
    return load_run(folder)


@pytest.mark.parametrize(('name', 'num_shots'), [('copa', 0), ('openbook_qa', 1)])
def test_lm_eval_has_our_numbers(name: str, num_shots: int, tmp_path: Path, stories: Any) -> None:
    lines = corpus(f'tasks/icl/{name}.jsonl').read_text().splitlines()
    asked, shown = tmp_path / 'asked.jsonl', tmp_path / 'shown.jsonl'
    asked.write_text('\n'.join(lines[:30]))
    # One record to draw from, so that both draw it.
    shown.write_text(lines[60])
    theirs = their_results(
        stories,
        {
            'task': f'{name}_local',
            'dataset_kwargs': {'data_files': {'test': str(asked), 'train': str(shown)}},
            'fewshot_split': 'train',
            'doc_to_text': '{{query}}',
            'doc_to_choice': 'choices',
            'doc_to_target': 'gold',
            'metric_list': [{'metric': m} for m in ('acc', 'acc_norm', 'acc_bytes')],
        },
        num_shots,
    )
    task = read_task(name)
    questions, pool = (read_records(task, str(f), 'task_data').asked for f in (asked, shown))
    ours = score_task(stories, task, questions, num_shots=num_shots, pool=pool)
    scores = theirs['results'][f'{name}_local']
    assert ours['accuracy'] == scores['acc,none']
    assert ours['accuracy_per_byte'] == scores['acc_bytes,none'] == scores['acc_norm,none']
    assert 0.1 < ours['accuracy'] < 0.9
    sample = theirs['samples'][f'{name}_local'][3]
    before = f'{pool[0].solved(" ")}\n\n' * num_shots
    assert sample['arguments'][0] == (before + questions[3].prompt, f' {questions[3].choices[0]}')


def test_a_texts_windows_sum_to_its_likelihood() -> None:
    model = language_model('llama')
    text = 'the cat sat on the mat and slept. then it got up again'
    tokens = [Letters.vocabulary.bos_id, *Letters().encode(text).tolist()]
    expected, size = 0.0, model.context
    for stop in range(1, len(tokens)):
        # Whole windows one after another; the last one as long, of which the last tokens count.
        begin = (stop - 1) // size * size
        if begin + size > len(tokens) - 1:
            begin = max(len(tokens) - 1 - size, 0)
        row = np.array([tokens[begin : begin + size]])
        log_p = log_softmax(np.asarray(model.logits(row))[0, stop - 1 - begin])
        expected += float(log_p[tokens[stop]])
    found = LmEvalModel(model).loglikelihood_rolling([Request(text), Request('a'), Request(text)])
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[2] == found[0] != found[1]


def test_answers_stop_where_the_task_says() -> None:
    model = language_model('llama')
    adapter = LmEvalModel(model)
    [whole] = written(model, ['the cat'], (), 6, 8)
    settings = {'until': [whole[2]], 'max_gen_toks': 6, 'do_sample': False, 'temperature': 0.0}
    asked = [
        Request('the cat', settings),
        Request('ab', {'until': '', 'max_gen_toks': 3}),
        Request('the cat', {**settings, 'until': whole[1]}),
    ]
    assert adapter.generate_until(asked) == [
        whole.split(whole[2])[0],
        written(model, ['ab'], (), 3, 8)[0],
        whole.split(whole[1])[0],
    ]


@pytest.mark.parametrize(
    ('settings', 'line'),
    [
        ({'do_sample': True, 'temperature': 0.7}, 'do_sample=True'),
        ({'top_p': 1}, 'top_p'),
    ],
)
def test_what_is_no_greedy_decoding_is_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=f'lm_eval_adapter: {line}: not understood'):
        LmEvalModel(language_model('llama')).generate_until([Request('a', settings)])


def test_models_without_such_likelihoods_are_refused() -> None:
    with pytest.raises(UserError, match='lm_eval_adapter: bert is an encoder'):
        LmEvalModel(language_model('bert'))
    with pytest.raises(UserError, match='objective.name=span_corruption says no text from its beg'):
        LmEvalModel(language_model('t5')).loglikelihood_rolling([Request('a')])
    asked = [Request('a' * 30, ' b')]
    with pytest.raises(UserError, match='32 tokens with their context do not fit'):
        LmEvalModel(language_model('llama')).loglikelihood(asked)


def test_an_answer_without_room_is_refused() -> None:
    adapter = LmEvalModel(language_model('llama', context=20))
    context = 'a' * 10  # and bos; the last token that is written needs no place
    adapter.generate_until([Request(context, {'until': '.', 'max_gen_toks': 10})])
    with pytest.raises(UserError, match='21 tokens with max_gen_toks=11 do not fit in model.max'):
        adapter.generate_until([Request(context, {'until': '.', 'max_gen_toks': 11})])
