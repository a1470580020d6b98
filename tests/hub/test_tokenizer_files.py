"""The tokenizer of an exported folder, as transformers reads it, against ours."""

import gzip
import json
from pathlib import Path

import pytest

from lm.data.sentencepiece_tokenizer import SentencePieceTokenizer
from lm.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from lm.hub import tokenizer_files as module
from lm.hub.llama2c_tokenizer import sentencepiece_model
from lm.hub.tokenizer_files import tokenizer_files
from tests.data.corpora import corpus
from tests.data.test_json_tokenizer import byte_level, saved
from tests.data.test_tokenizer import AWKWARD, SPELLED_SPECIALS

transformers = pytest.importorskip('transformers', reason='transformers is not installed')

FAMILIES = ('bert', 'gpt2', 'llama', 't5')
STRETCH = 2000
LITERALS = tuple(set(SPELLED_SPECIALS) - {'<0x41>'})


def exported(tokenizer: Tokenizer, folder: Path, family: str) -> 'transformers.PreTrainedTokenizer':
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps({'model_type': family}))
    files = tokenizer_files(tokenizer)
    assert {'tokenizer.json', 'tokenizer_config.json'} <= set(files)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return transformers.AutoTokenizer.from_pretrained(folder)


def agree(
    theirs: 'transformers.PreTrainedTokenizer',
    ours: Tokenizer,
    texts: list[str],
    in_order: bool = True,
) -> None:
    arranged = list if in_order else sorted
    for text, ids in zip(texts, ours.encode_batch(texts), strict=True):
        found = theirs(text, add_special_tokens=False)['input_ids']
        assert arranged(found) == arranged(ids.tolist()), repr(text)
        assert theirs.decode(ids.tolist()) == ours.decode(ids), repr(text)


def real_texts(stretches: int) -> list[str]:
    """Prose, German and documentation, none of which the tokenizers are trained on."""
    play = corpus('general/tinyshakespeare.txt').read_text()[500_000:]
    german = corpus('tasks/xquad/xquad.de.json').read_text(encoding='utf-8')
    with gzip.open(corpus('general/linux_doc.jsonl.gz'), 'rt', encoding='utf-8') as file:
        docs = ''.join(json.loads(next(file))['text'] for _ in range(20))
    return [
        text[i * STRETCH : (i + 1) * STRETCH]
        for text in (play, german, docs)
        for i in range(stretches)
    ]


@pytest.fixture(scope='module', params=['unigram', 'bpe', 'char'])
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    text = corpus('general/tinyshakespeare.txt').read_text()[:200_000]
    return train_tokenizer(request.param, [text], None if request.param == 'char' else 800)


@pytest.mark.parametrize('family', FAMILIES)
def test_a_tokenizer_trained_here(trained: Tokenizer, family: str, tmp_path: Path):
    theirs = exported(trained, tmp_path / 'hf', family)
    plain = [text for text in AWKWARD if not any(word in text for word in LITERALS)]
    agree(theirs, trained, [*plain, '<0x41>', *real_texts(20 if family == 'bert' else 2)])
    v = trained.vocabulary
    named = [theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id]
    assert named == [0, 1, 2, 3]
    assert theirs.mask_token_id == v.mask_id
    assert theirs('<extra_id_7><mask>', add_special_tokens=False)['input_ids'] == [
        v.sentinel_ids[7], v.mask_id,
    ]  # fmt: skip
    assert len(theirs) == v.size
    ids = [v.bos_id, *trained.encode('a cat'), v.sentinel_ids[3], v.eos_id, v.pad_id]
    assert theirs.decode(ids, skip_special_tokens=True) == 'a cat'


def test_spellings_of_bytes_are_text_where_all_their_characters_are_pieces(tmp_path: Path):
    text = corpus('general/tinyshakespeare.txt').read_text()[:50_000] + '<0123456789ABCDEFx> ' * 20
    tokenizer = train_tokenizer('unigram', [text], 700)
    theirs = exported(tokenizer, tmp_path / 'hf', 'llama')
    agree(theirs, tokenizer, ['<0x41>', 'a<0x0A><0xFF>b', '0x41>', *real_texts(1)])


@pytest.mark.parametrize(
    ('name', 'rows'),
    [('sentencepiece_test_model_1k', None), ('sentencepiece_test_model_1k', 1000),
     ('t5_cc_all_32k', None)],
)  # fmt: skip
def test_a_foreign_model(name: str, rows: int | None, tmp_path: Path):
    tokenizer = load_tokenizer(corpus(f'tokenizers/{name}.model'), rows)
    theirs = exported(tokenizer, tmp_path / 'hf', 't5')
    *others, docs = [real_texts(10)[i : i + 10] for i in (0, 10, 20)]
    agree(theirs, tokenizer, ['', 'Hello  world ', ' a\n\n  b', *others[0], *others[1]])
    # Rows of dashes: the same pieces in two orders weigh the same but for rounding.
    agree(theirs, tokenizer, docs, in_order=False)
    v = tokenizer.vocabulary
    assert (theirs.pad_token_id, theirs.mask_token_id) == (v.pad_id, v.mask_id)
    assert len(theirs) == v.size
    # Read back, all ids are where they were.
    assert load_tokenizer(tmp_path / 'hf', v.size).vocabulary == v


def test_llama2c(tmp_path: Path):
    data = corpus('checkpoints/tok512.bin').read_bytes()
    tokenizer = SentencePieceTokenizer(sentencepiece_model(data, 512, 'tok512.bin'), 512)
    theirs = exported(tokenizer, tmp_path / 'hf', 'llama')
    agree(theirs, tokenizer, ['', '  two  spaces \n', *real_texts(10)])


@pytest.mark.parametrize('rows', [None, 290])
def test_a_tokenizer_json(rows: int | None, tmp_path: Path):
    tokenizer = load_tokenizer(saved(byte_level(), tmp_path / 'gpt2'), rows)
    theirs = exported(tokenizer, tmp_path / 'hf', 'gpt2')
    agree(theirs, tokenizer, [*real_texts(2), 'a  b\n'])
    v = tokenizer.vocabulary
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.mask_token_id) == (
        v.eos_id, v.pad_id, v.mask_id,
    )  # fmt: skip
    assert len(theirs) == v.size


def test_the_files_of_a_whole_tokenizer_json_are_its_own(tmp_path: Path):
    folder = saved(byte_level(), tmp_path / 'gpt2', tokenizer_class='GPT2Tokenizer')
    assert tokenizer_files(load_tokenizer(folder, 290)) == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


@pytest.mark.parametrize('config', [None, {'do_lower_case': True}])
@pytest.mark.parametrize('rows', [8, None])
def test_a_vocab_txt(rows: int | None, config: dict[str, bool] | None, tmp_path: Path):
    source = tmp_path / 'source'
    source.mkdir()
    (source / 'config.json').write_text('{"model_type": "bert", "pad_token_id": 0}')
    names = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'aa', 'ba', '##b']
    (source / 'vocab.txt').write_text('\n'.join(names))
    if config is not None:
        (source / 'tokenizer_config.json').write_text(json.dumps(config))
    tokenizer = load_tokenizer(source, rows)
    before = transformers.AutoTokenizer.from_pretrained(source)
    after = exported(tokenizer, tmp_path / 'hf', 'bert')
    for texts in (['aa ba'], ['aa', 'bab AA']):
        assert dict(after(*texts)) == dict(before(*texts))
    assert (after.cls_token, after.sep_token, after.mask_token) == ('[CLS]', '[SEP]', '[MASK]')
    agree(after, tokenizer, ['aa ba', 'aab'])


def test_a_gpt2_whose_config_json_gives_its_eos(tmp_path: Path):
    source = tmp_path / 'source'
    source.mkdir()
    byte_level().model.save(str(source))
    vocabulary = json.loads((source / 'vocab.json').read_text())
    vocabulary = {piece: i for piece, i in vocabulary.items() if piece != '<|endoftext|>'}
    (source / 'vocab.json').write_text(json.dumps({**vocabulary, '<|end|>': 290}))
    (source / 'config.json').write_text('{"model_type": "gpt2", "eos_token_id": 290}')
    tokenizer = load_tokenizer(source, 291)
    theirs = exported(tokenizer, tmp_path / 'hf', 'gpt2')
    assert (theirs.eos_token_id, theirs.eos_token, len(theirs)) == (290, '<|end|>', 290)
    assert load_tokenizer(tmp_path / 'hf', 291).vocabulary == tokenizer.vocabulary


def test_what_has_no_counterpart_is_told(capsys: pytest.CaptureFixture[str]):
    tokenizer = train_tokenizer('word', ['a cat reads a letter\n' * 100], None)
    assert tokenizer_files(tokenizer) == tokenizer.files
    said = capsys.readouterr().err
    assert said.startswith('note: no tokenizer.json is written: the tokenizer has no counterpart')
    assert said.count('\n') == 1


def test_a_difference_is_never_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tokenizer = train_tokenizer('bpe', ['a cat reads a letter\n' * 100], None)
    monkeypatch.setattr(module._Spelled, '_decoders', lambda self: [])
    assert tokenizer_files(tokenizer) == tokenizer.files
    assert "the tokenizer decodes '" in capsys.readouterr().err
