"""Flags of every type, what they refuse, and how they become a config."""

from typing import Any, Literal

import pytest

from lm.config import Config
from lm.errors import UserError
from lm.flags import Flags
from lm.named_configs import load_config
from lm.resolution import override


def value_of(annotation: Any, *argv: str, default: Any = None) -> Any:
    flags = Flags(argv)
    flags.define('x', annotation, default, 'something')
    flags.parse()
    return flags['x']


def refusal(*argv: str, base: Config | None = None) -> str:
    flags = Flags(argv)
    flags.define('workdir', str, '', 'the folder of the run')
    flags.define('strict', bool, False, 'no fallback')
    with pytest.raises(UserError) as caught:
        flags.define_config(base or Config())
        flags.parse()
        flags.config()
    assert '\n' not in str(caught.value)
    return str(caught.value)


def config_of(*argv: str, base: Config | str = Config()) -> Config:  # noqa: B008 (frozen)
    flags = Flags(argv)
    flags.define_config(base)
    flags.parse()
    return flags.config()


@pytest.mark.parametrize(
    ('annotation', 'text', 'value'),
    [
        (int, '-3', -3),
        (float, '1e-3', 1e-3),
        (float, '2', 2.0),
        (str, 'none', 'none'),
        (str, '', ''),
        (bool, 'False', False),
        (bool, '1', True),
        (int | None, 'none', None),
        (int | None, '4', 4),
        (str | None, 'text', 'text'),
        (Literal['ddp', 'zero1'], 'zero1', 'zero1'),
        (Literal[1, 2] | None, '2', 2),
        (tuple[int, ...], '1, 2,3', (1, 2, 3)),
        (tuple[float, ...], '', ()),
        (tuple[str, ...] | None, 'a,b', ('a', 'b')),
    ],
)
def test_text_becomes_a_value(annotation: Any, text: str, value: Any) -> None:
    parsed = value_of(annotation, f'--x={text}')
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ('annotation', 'text', 'right'),
    [
        (int, '1.5', 'must be int'),
        (int, '', 'must be int'),
        (float, 'abc', 'must be float'),
        (float, 'nan', 'must be float'),
        (float, 'inf', 'must be float'),
        (bool, 'maybe', 'must be true or false'),
        (int | None, 'nil', 'must be int or none'),
        (Literal['ddp', 'zero1'], 'zero9', 'must be one of ddp, zero1'),
        (tuple[int, ...], '1,b', 'must be a comma-separated list of int'),
        (tuple[str, ...], 'a,,b', 'must be a comma-separated list of text'),
    ],
)
def test_other_text_is_refused(annotation: Any, text: str, right: str) -> None:
    with pytest.raises(UserError) as caught:
        value_of(annotation, f'--x={text}')
    assert str(caught.value) == f'--x={text}: {right}'


def test_forms() -> None:
    assert value_of(str, '--x', 'next') == 'next'
    assert value_of(str, '--x=a=b') == 'a=b'
    assert value_of(str, '--x=1', '--x=2') == '2'
    assert value_of(bool, '--x') is True
    assert value_of(bool, '--nox', default=True) is False
    assert value_of(int) is None


def test_a_required_flag() -> None:
    flags = Flags([])
    flags.define('workdir', str, '', 'the folder of the run')
    flags.parse()
    with pytest.raises(UserError, match='--workdir: missing; give the folder of the run'):
        flags.required('workdir')


def test_every_field_is_a_flag() -> None:
    config = config_of(
        '--config.model.d_model=256',
        '--config.optim.clip_norm=none',
        '--noconfig.model.scan_layers',
    )
    assert config.model.d_model == 256
    assert config.optim.clip_norm is None
    assert config.model.scan_layers is False


def test_nothing_given_changes_nothing() -> None:
    assert config_of(base='llama_tiny') == load_config('llama_tiny')
    assert config_of('--config=t5_tiny', base='llama_tiny') == load_config('t5_tiny')
    assert config_of('--config', 't5_tiny', base='llama_tiny') == load_config('t5_tiny')


def test_a_config_is_replaced_only_where_it_is_named() -> None:
    recorded = override(load_config('llama_tiny'), {'train.steps': 7})
    assert config_of(base=recorded) == recorded
    assert config_of('--config=llama_tiny', base=recorded).train.steps != 7


@pytest.mark.parametrize('form', [['--config.optim.name=sgd'], ['--config.optim.name', 'sgd']])
def test_options_follow_the_name_wherever_it_stands(form: list[str]) -> None:
    momentum = '--config.optim.options.momentum=0.5'
    for argv in ([momentum, *form], [*form, momentum]):
        assert config_of(*argv).optim.options.momentum == 0.5
    assert '--config.optim.options.b1: no such field' in refusal(
        '--config.optim.options.b1=1', *form
    )


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (
            ['--config.model.num_layer=3'],
            '--config.model.num_layer: no such field; did you mean --config.model.num_layers?',
        ),
        (['--num_layers=3'], '--num_layers: no such flag; did you mean --config.model.num_layers?'),
        (['--config.d_model=3'], 'did you mean --config.model.d_model?'),
        (['--workdri=x'], '--workdri: no such flag; did you mean --workdir?'),
        (['--qqqq=1'], '--qqqq: no such flag; --help lists them all'),
        (['--config.model=llama'], '--config.model: no such field; it is a section'),
        (['--config.train.steps=ten'], '--config.train.steps=ten: must be int'),
        (['--config.model.name=lama'], 'model.name=lama: no such member; did you mean llama?'),
        (['--config.model.name=bert'], 'objective.name=clm'),
        (['--config=lama_tiny'], 'config=lama_tiny: no such member; did you mean llama_tiny?'),
        (['--config=nonesuch.py'], 'config=nonesuch.py: no such file'),
        (['train'], "'train': not a flag"),
        (['--strict', 'false'], "'false': not a flag"),
        (['--', '--strict'], "'--strict': not a flag"),
        (['--workdir'], '--workdir'),
        (['--config'], '--config'),
    ],
)
def test_a_mistake_is_told_in_a_line(argv: list[str], words: str) -> None:
    assert words in refusal(*argv)


def test_given_tells_flags_and_sections() -> None:
    flags = Flags(['--config.train.steps=1000'])
    flags.define_config(Config())
    flags.parse()
    assert flags.given('config.train.steps')
    assert flags.given('config.')
    assert not flags.given('config.model.')
    assert not flags.given('config')


def test_help_lists_type_default_and_meaning() -> None:
    flags = Flags([])
    flags.define_config(Config())
    text = flags.describe()
    assert '--config.train.steps=1000\n      int: optimizer steps' in text
    assert '--config.optim.clip_norm=1.0\n      float or none:' in text
    assert '--config.optim.options.b1=0.9' in text
    assert max(map(len, text.splitlines())) <= 100


def test_words_that_are_no_flags() -> None:
    flags = Flags(['a', '--size=4', 'b', '--strict', '--', '--c'])
    flags.define_words('WORKDIR')
    flags.define('size', int, 3, 'how many')
    flags.define('strict', bool, False, 'no fallback')
    flags.parse()
    assert (flags.words, flags['size'], flags['strict']) == (('a', 'b', '--c'), 4, True)
    assert flags.usage == 'WORKDIR ... [--flag=value ...]'
    assert Flags([]).usage == '[--flag=value ...]'
    with pytest.raises(UserError, match="'a': not a flag"):
        Flags(['a']).parse()
