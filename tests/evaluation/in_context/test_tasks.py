"""Tasks as data, their records, and one line for each mistake in either."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from lm.data.sources import Document, Part, Reading
from lm.errors import UserError
from lm.evaluation.in_context.records import Question, read_records
from lm.evaluation.in_context.task import Task, read_task, shipped_tasks
from tests.data.corpora import corpus

CHOOSES = {'prompt': '{query}', 'choices': 'choices', 'gold': 'gold'}
RECORD: dict[str, Any] = {'query': 'a', 'choices': ['b', 'c'], 'gold': 1}


def written(folder: Path, **keys: Any) -> Task:
    file = folder / 'mine.yaml'
    file.write_text(yaml.safe_dump(keys))
    return read_task(str(file))


def read(task: Task, folder: Path, *records: Any) -> list[Question]:
    file = folder / 'records.jsonl'
    file.write_text('\n'.join(map(json.dumps, records)))
    return read_records(task, str(file), 'task_data').asked


def test_a_shipped_task_reads_its_records() -> None:
    found = {}
    for name in ('copa', 'openbook_qa', 'arc_easy'):
        file = corpus(f'tasks/icl/{name}.jsonl')
        found[name] = read_records(read_task(name), str(file), 'task_data').asked
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert [q.gold for q in found[name]] == [record['gold'] for record in records]
        assert [list(q.choices) for q in found[name]] == [record['choices'] for record in records]
    assert {name: len(questions) for name, questions in found.items()} == {
        'copa': 100, 'openbook_qa': 500, 'arc_easy': 2376,
    }  # fmt: skip
    first = found['copa'][0]
    assert (
        first.solved(' ') == 'The man turned on the faucet, therefore water flowed from the spout.'
    )
    assert found['arc_easy'][1].solved(' ').endswith('respiratory system?\nAnswer: breathing mask')


def test_every_shipped_task_can_be_read() -> None:
    for name in shipped_tasks():
        task = read_task(name)
        assert (task.choices is None) == (task.answers is not None)


def test_templates_take_fields_and_numbers(tmp_path: Path) -> None:
    task = written(
        tmp_path, prompt='{{{n}}} {text}:', choices=['no, {text}', 'yes'], gold='label',
        labels=['bad', 'good'], delimiter='', separator='|',
    )  # fmt: skip
    [question] = read(task, tmp_path, {'n': 3, 'text': 'é', 'label': 'good'})
    assert question == Question('records.jsonl:1', '{3} é:', ('no, é', 'yes'), 1, ('yes',))
    assert question.solved(task.delimiter) == '{3} é:yes'


def test_answers_are_one_or_several(tmp_path: Path) -> None:
    task = written(tmp_path, prompt='{q}', answers='a', max_new_tokens=4)
    one, several = read(task, tmp_path, {'q': 'x', 'a': 'y'}, {'q': 'x', 'a': ['y', 'z']})
    assert (one.answers, several.answers) == (('y',), ('y', 'z'))
    assert one.gold is None and one.choices == ()


def test_a_json_file_says_a_task_too(tmp_path: Path) -> None:
    file = tmp_path / 'mine.json'
    file.write_text(json.dumps(CHOOSES))
    assert read_task(str(file)).gold == 'gold'


@pytest.mark.parametrize(
    ('keys', 'line'),
    [
        ({'prompt': '{query'}, "prompt='{query': expected '}'"),
        ({'prompt': '{}'}, '{} is no name of a field'),
        ({'prompt': '{a.b}'}, '{a.b} is no name of a field'),
        ({'prompt': '{a:3}'}, '{a} is no name of a field'),
        ({'prompt': 3}, 'prompt=3: must be a text'),
        ({'promt': 'a'}, 'promt: no such key; did you mean prompt?'),
        ({'gold': None}, 'gold=None: must be a text'),
        ({'answers': 'a'}, 'give either choices (with gold) or answers, not both'),
        ({'choices': ['a']}, "choices=['a']: must be a field's name, or at least 2 templates"),
        ({'choices': ['a', '{']}, "choices='{': "),
        ({'labels': 'a'}, "labels='a': must be a list of texts"),
        ({'stop': ['']}, "stop=['']: must be a list of texts, none of them empty"),
        ({'max_new_tokens': 0}, 'max_new_tokens=0: must be a whole number of at least 1'),
        ({'delimiter': 1}, 'delimiter=1: must be a text'),
    ],
)
def test_a_mistake_in_a_task_is_one_line(tmp_path: Path, keys: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        written(tmp_path, **{**CHOOSES, **keys})
    assert str(refused.value).startswith(f'--task={tmp_path / "mine.yaml"}: ')
    assert line in str(refused.value)


@pytest.mark.parametrize(
    ('content', 'line'),
    [
        (b'- a', 'must say keys and values'),
        (b'choices: c\ngold: g', 'prompt: missing'),
        (b'prompt: a', 'give either choices (with gold) or answers'),
        (b'prompt: a\nchoices: c', 'gold: missing beside choices'),
        (b'prompt: a\nanswers: c', 'max_new_tokens: missing beside answers'),
        (
            b'prompt: a\nanswers: c\nmax_new_tokens: 3\ngold: g',
            'gold: says which of the choices is right; answers has none',
        ),
        (
            b'prompt: a\nanswers: c\nmax_new_tokens: 3\nlabels: [A]',
            'labels: says which of the choices',
        ),
        (b'prompt: "\xe9"', 'byte 9 is not UTF-8'),
        (b'a: [', 'is no YAML'),
        (b'prompt: 2020-99-99', 'is no YAML (month must be in 1..12'),
    ],
)
def test_a_file_that_is_no_task_is_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / 'mine.yml'
    file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_task(str(file))
    assert line in str(refused.value)


def test_an_unknown_task_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'--task=coppa: no such task; did you mean copa\?'):
        read_task('coppa')
    with pytest.raises(UserError, match=r'absent.yaml: cannot be read \(No such file'):
        read_task(str(tmp_path / 'absent.yaml'))


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'query': None}, 'query is NoneType, not text'),
        ({'query': ['a']}, 'query is list, not text'),
        ({'choices': 'a'}, 'must be at least 2 texts'),
        (
            {'choices': ['a', ' ']},
            "['a', ' ']: must be at least 2 texts, none of them empty",
        ),
        ({'choices': ['a', 3]}, 'must be at least 2 texts'),
        ({'gold': 2}, 'gold=2: must be the number of the right one of 2 choices, from 0'),
        ({'gold': -1}, 'gold=-1: must be the number'),
        ({'gold': True}, 'gold=True: must be the number'),
        ({'gold': '2'}, "gold='2': must be the number"),
        ({'gold': 'b'}, "gold='b': must be the number"),
    ],
)
def test_a_mistake_in_a_record_names_its_line(
    tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as refused:
        read(written(tmp_path, **CHOOSES), tmp_path, RECORD, {**RECORD, **changes})
    assert str(refused.value).startswith('--task_data=records.jsonl:2: ')
    assert line in str(refused.value)


def test_a_record_without_the_fields_is_refused(tmp_path: Path) -> None:
    task = written(tmp_path, **CHOOSES)
    for absent in RECORD:
        record = {key: value for key, value in RECORD.items() if key != absent}
        with pytest.raises(UserError, match=f'records.jsonl:1: has no field {absent}, which the'):
            read(task, tmp_path, record)
    with pytest.raises(UserError, match=r'did you mean qurey\? \(fields: qurey, choices, gold\)'):
        read(task, tmp_path, {'qurey': 'a', **{k: RECORD[k] for k in ('choices', 'gold')}})
    labelled = written(tmp_path, **CHOOSES, labels=['no', 'yes'])
    with pytest.raises(UserError, match="gold=1: must be one of the task's labels no, yes"):
        read(labelled, tmp_path, RECORD)


@pytest.mark.parametrize(
    ('content', 'line'),
    [
        (
            '{"query": "caf\u00e9"}'.encode('latin-1'),
            'not UTF-8 (0xe9 at byte 14); set --task_',
        ),
        (b'{"query"', ':1: not JSON'),
        (b'["a"]', ':1: not a JSON object but list'),
        (b'{"query": "\\ud800"}', 'records.jsonl:1 holds an unpaired surrogate'),
        (b'', 'holds no record; give'),
        (b'\n\n', 'holds no record; give'),
    ],
)
def test_a_file_of_no_records_is_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / 'records.jsonl'
    file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_records(written(tmp_path, **CHOOSES), str(file), 'shots_data')
    assert str(refused.value).startswith('--shots_data')
    assert line in str(refused.value) and 'data.' not in str(refused.value)


def test_latin_1_is_read_as_such(tmp_path: Path) -> None:
    file = tmp_path / 'records.jsonl'
    file.write_bytes(json.dumps({**RECORD, 'query': 'café'}, ensure_ascii=False).encode('latin-1'))
    found = read_records(written(tmp_path, **CHOOSES), str(file), 'task_data', 'latin-1')
    assert found.asked[0].prompt == 'café'


def test_a_table_of_texts_has_numbers_too(tmp_path: Path) -> None:
    file = tmp_path / 'records.csv'
    file.write_text('query,left,right,gold\nwhich?,a,b,1\n')
    task = written(tmp_path, prompt='{query}', choices=['{left}', '{right}'], gold='gold')
    [asked] = read_records(task, str(file), 'task_data').asked
    assert (asked.gold, asked.answers) == (1, ('b',))


def test_json_is_read_as_such(tmp_path: Path) -> None:
    file = tmp_path / 'mine.json'
    file.write_text('{\n\t"prompt": "{q}",\n\t"answers": "a",\n\t"max_new_tokens": 3\n}')
    assert read_task(str(file)).max_new_tokens == 3
    file.write_text('prompt: a')
    with pytest.raises(UserError, match='mine.json: is no JSON'):
        read_task(str(file))


class Split:
    """A source with a held-out part, as a dataset of TFDS is."""

    facts: ClassVar[dict[str, str]] = {}
    has_validation = True

    def fingerprint(self) -> str:
        return ''

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        for number in range(3 if part == 'train' else 2):
            record = {**RECORD, 'query': f'{part} {number}'}
            yield Document(f'{part}/{number}', json.dumps(record))


def test_a_held_out_part_is_asked_and_the_training_part_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = 'lm.evaluation.in_context.records'
    monkeypatch.setattr(f'{module}.open_source', lambda data, examples: Split())
    found = read_records(written(tmp_path, **CHOOSES), 'tfds:mine', 'task_data')
    assert [q.prompt for q in found.asked] == ['validation 0', 'validation 1']
    assert [q.prompt for q in found.shown] == ['train 0', 'train 1', 'train 2']
