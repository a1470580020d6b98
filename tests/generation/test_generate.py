"""`lm.generate` against step-by-step forward passes, for each family."""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lm
from lm.batch import Batch
from lm.config import ObjectiveConfig
from lm.errors import UserError
from lm.generation import answers
from lm.generation import decode as decoding
from lm.generation.language_model import LanguageModel
from lm.models.functional import Functional
from lm.shapes import Params
from tests.generation.tiny import CONTEXT, LETTERS, Letters, Stripping, language_model

V = Letters.vocabulary
DECODERS = ['llama', 'gpt2']
RECURRENT = ['lstm', 'gru']


@functools.cache
def model(name: str) -> LanguageModel:
    return language_model(name)


def favouring(name: str, logit_of: dict[int, float]) -> LanguageModel:
    """The model with some of its logits set by hand."""
    base = model(name)

    def moved(logits: jax.Array) -> jax.Array:
        ids = np.array([*logit_of])
        return logits.at[..., ids].set(np.array([*logit_of.values()], np.float32))

    class Moved(Functional):
        def apply(self, params: Params, batch: Batch, **rest: Any) -> jax.Array:
            return moved(base.functional.apply(params, batch, **rest))

        def read(self, *given: Any) -> Any:
            logits_BV, state = base.functional.read(*given)
            return moved(logits_BV), state

        def advance(self, *given: Any) -> Any:
            logits_BV, state = base.functional.advance(*given)
            return moved(logits_BV), state

    return replace(base, functional=Moved(**vars(base.functional)))


def greedy(
    loaded: LanguageModel, tokens: list[int], new: int, allowed: set[int], **side: np.ndarray
) -> list[int]:
    """The likeliest token again and again, each from a forward pass over all that is in sight."""
    banned = (set(range(12)) | set(range(V.size, 40))) - allowed
    for _ in range(new):
        # One length for all steps: what lies to the right is not seen.
        seen = np.zeros((1, CONTEXT), np.int32)
        last = min(len(tokens), CONTEXT) - 1
        seen[0, : last + 1] = tokens[-CONTEXT:]
        if side:
            logits_BTV = loaded.logits(side['source'], decoder_tokens=seen)
        else:
            logits_BTV = loaded.logits(seen)
        logits_V = np.array(logits_BTV[0, last])
        logits_V[sorted(banned)] = -np.inf
        tokens = [*tokens, int(logits_V.argmax())]
        if tokens[-1] == V.eos_id:
            break
    return tokens


@pytest.mark.parametrize('name', DECODERS)
@pytest.mark.parametrize('prompt', ['', 'abc', 'the cat sat on the'])
def test_greedy_decoding_is_step_by_step_and_the_window_slides(name: str, prompt: str) -> None:
    loaded, new = model(name), 25
    ids = [V.bos_id, *loaded.tokenizer.encode(prompt).tolist()]
    want = greedy(loaded, ids, new, {V.eos_id})[len(ids) :]
    assert len(want) + len(ids) > CONTEXT
    [text] = lm.generate(loaded, [prompt], max_new_tokens=new, temperature=0)
    assert text == prompt + loaded.tokenizer.decode(want)


@pytest.mark.parametrize('name', RECURRENT)
@pytest.mark.parametrize('prompt', ['', 'the cat sat on the'])
def test_a_state_has_read_all_before(name: str, prompt: str) -> None:
    loaded, new = language_model(name, num_layers=2), 25
    ids = [V.bos_id, *loaded.tokenizer.encode(prompt).tolist()]
    tokens, given = list(ids), len(ids)
    banned = sorted((set(range(12)) | set(range(V.size, 40))) - {V.eos_id})
    while len(tokens) < given + new and tokens[-1] != V.eos_id:
        # A whole forward pass over more than `max_positions`: the state forgets no token.
        seen = np.zeros((1, 64), np.int32)
        seen[0, : len(tokens)] = tokens
        logits_V = np.array(loaded.logits(seen)[0, len(tokens) - 1])
        logits_V[banned] = -np.inf
        tokens.append(int(logits_V.argmax()))
    assert len(tokens) > CONTEXT
    said = prompt + loaded.tokenizer.decode(tokens[given:])
    ask = functools.partial(lm.generate, loaded, max_new_tokens=new)
    assert ask([prompt], temperature=0) == [said]
    many = ask([prompt], num_samples=3)
    assert ask([prompt], num_samples=1) == many[:1] and len(set(many)) == 3


def test_eos_ends_a_text() -> None:
    likely = favouring('llama', {V.eos_id: 1e6})
    assert lm.generate(likely, ['abc'], max_new_tokens=5) == ['abc']
    never = favouring('llama', {V.eos_id: -1e6})
    [text] = lm.generate(never, ['abc'], max_new_tokens=70)
    assert len(text) == 73


@pytest.mark.parametrize('name', ['llama', 't5', 'bert'])
def test_special_tokens_never_come_out(name: str) -> None:
    special = {i: 1e5 + i for i in (*V.special_ids, V.unk_id, V.size)}
    loaded = favouring(name, {**special, V.eos_id: -1e6})
    prompt, fill = ('ab<mask>.', True) if name == 'bert' else ('ab', False)
    if name == 't5':
        # Sentinels may come: they divide the answer.
        special = {i: x for i, x in special.items() if i not in V.sentinel_ids}
        loaded = favouring(name, {**special, **dict.fromkeys((*V.sentinel_ids, V.eos_id), -1e6)})
    texts = lm.generate(loaded, [prompt], max_new_tokens=6, num_samples=5, fill=fill)
    for text in texts:
        assert len(text) == (4 if fill else 8)
        assert set(text) <= set(LETTERS)


def test_a_sample_depends_on_its_own_number_alone() -> None:
    loaded = model('llama')
    draw = functools.partial(lm.generate, loaded, max_new_tokens=12)
    many = draw(['ab', 'xyz'], num_samples=4)
    assert draw(['ab', 'xyz'], num_samples=4) == many
    assert draw(['ab', 'xyz'], num_samples=2) == [*many[:2], *many[4:6]]
    assert draw(['something', 'xyz'], num_samples=1)[1] == many[4]
    assert draw(['ab'], num_samples=1) == many[:1]
    assert len(set(many)) == 8
    assert draw(['ab', 'xyz'], num_samples=4, seed=1) != many


def test_a_first_space_of_a_continuation_is_kept() -> None:
    space = V.size - 2
    assert Letters().decode([space]) == ' '
    spaced = replace(favouring('llama', {space: 1e6}), text_codec=Stripping())
    assert lm.generate(spaced, ['ab'], max_new_tokens=3) == ['ab   ']


def test_an_encoder_fills_each_blank_with_its_likeliest_token() -> None:
    loaded = model('bert')
    ids = loaded.tokenizer.encode
    row = np.concatenate([[V.bos_id], ids('the '), [V.mask_id], ids(' s'), [V.mask_id], [V.eos_id]])
    logits_TV = np.array(loaded.logits(row[None])[0])
    logits_TV[:, :12] = -np.inf
    first, second = (loaded.tokenizer.decode([i]) for i in logits_TV[[5, 8]].argmax(-1))
    texts = lm.generate(loaded, ['the <mask> s<mask>'], temperature=0, fill=True)
    assert texts == [f'the {first} s{second}']


@pytest.mark.parametrize(('prompt', 'fill'), [('the cat', False), ('a<mask>b<mask>c', True)])
def test_an_encoder_decoder_fills_spans(prompt: str, fill: bool) -> None:
    loaded, new = model('t5'), 9
    parts = prompt.split('<mask>') if fill else [prompt, '']
    source = [loaded.tokenizer.encode(parts[0])]
    for sentinel, part in zip(V.sentinel_ids, parts[1:], strict=False):
        source += [[sentinel], loaded.tokenizer.encode(part)]
    row = np.concatenate([*source, [V.eos_id]]).astype(np.int32)
    allowed = {V.eos_id, *V.sentinel_ids}
    said = greedy(loaded, [V.pad_id, V.sentinel_ids[0]], new, allowed, source=row[None])[1:]
    want = parts[0]
    for sentinel, part in zip(V.sentinel_ids, parts[1:], strict=False):
        if sentinel in said:
            span = said[said.index(sentinel) + 1 :]
            stop = [i for i, token in enumerate(span) if token < 12]
            want += loaded.tokenizer.decode(span[: stop[0]] if stop else span)
        want += part
    assert lm.generate(loaded, [prompt], max_new_tokens=new, temperature=0, fill=fill) == [want]


def test_a_mask_in_a_text_that_is_continued_is_text() -> None:
    with pytest.raises(ValueError, match='substring'):  # the tokenizer of letters has no '<'
        lm.generate(model('t5'), ['a<mask>b'], max_new_tokens=2)


def test_an_answer_ends_at_a_sentinel_that_was_not_asked_for() -> None:
    loaded = favouring('t5', {V.sentinel_ids[1]: 1e6})
    assert lm.generate(loaded, ['abc'], max_new_tokens=9) == ['abc']


def test_few_lengths_are_compiled() -> None:
    loaded = language_model('llama')  # of which nothing is compiled yet
    before = decoding._begin._cache_size()
    for length in range(1, 15):
        lm.generate(loaded, ['a' * length], max_new_tokens=30, temperature=0.9)
        lm.generate(replace(loaded), ['a' * length], max_new_tokens=31, temperature=0.9)
    assert decoding._begin._cache_size() == before + 1


def test_parameters_may_lie_on_several_devices() -> None:
    here = model('llama')
    mesh = jax.make_mesh((jax.device_count(),), ('replica',))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    spread = replace(here, params=jax.device_put(here.params, everywhere))
    ask = functools.partial(lm.generate, prompts=['abc'], max_new_tokens=9, num_samples=2)
    assert ask(spread) == ask(here)


def test_logits_of_packed_and_two_sided_rows() -> None:
    tokens = np.array([[1, 20, 21, 1, 22, 0]], np.int32)
    together = model('llama').logits(tokens, np.array([[1, 1, 1, 2, 2, 0]]))
    alone = model('llama').logits(tokens[:, 3:5])
    np.testing.assert_allclose(together[:, 3:5, : V.size], alone[..., : V.size], atol=2e-5)
    assert bool(jnp.all(together[..., V.size :] == -jnp.inf))
    with pytest.raises(UserError, match='needs decoder_tokens too'):
        model('t5').logits(tokens)
    with pytest.raises(UserError, match='takes no decoder_tokens'):
        model('llama').logits(tokens, decoder_tokens=tokens)


@pytest.mark.parametrize(
    ('name', 'prompts', 'settings', 'words'),
    [
        ('llama', ['a' * 20], {}, 'prompt: 21 tokens with its special ones, the context is '),
        ('t5', ['a' * 19], {}, 'prompt: 21 tokens with its special ones'),
        ('bert', ['a' * 20 + '<mask>'], {'fill': True}, 'prompt: 23 tokens'),
        ('t5', ['<mask>' * 5], {'fill': True}, 'prompt: has 5 blanks; at most 4'),
        ('bert', ['abc'], {}, 'an encoder (bert) does not continue text; give --fill'),
        ('bert', ['abc'], {'fill': True}, "prompt='abc': has no <mask> to fill"),
        ('llama', ['a<mask>'], {'fill': True}, 'fill: a decoder (llama) only continues text'),
        ('llama', ['a\udc80'], {}, 'is not UTF-8'),
        ('llama', 'abc', {}, 'prompts: a text; give a list of texts'),
        ('llama', ['a'], {'max_new_tokens': 0}, 'max_new_tokens=0: must be at least 1'),
        ('llama', ['a'], {'num_samples': 0}, 'num_samples=0: must be at least 1'),
        ('llama', ['a'], {'seed': -1}, 'seed=-1: must be in [0, 2**31)'),
        ('llama', ['a'], {'num_beams': 0}, 'num_beams=0: must be at least 1'),
        ('llama', ['a'], {'num_beams': 20}, 'num_beams=20: between 1 and a 2th of'),
        ('llama', ['a'], {'num_beams': 2, 'top_k': 3}, 'num_beams=2: draws nothing; leave out'),
        ('llama', ['a'], {'num_beams': 2, 'stop': ['b']}, 'num_beams=2: takes no stop'),
        ('llama', ['a'], {'num_beams': 2, 'num_samples': 3}, 'num_samples=3: num_beams=2 finds'),
        ('llama', ['a'], {'length_penalty': 2.0}, 'length_penalty=2.0: is of a search; give'),
        ('bert', ['<mask>'], {'fill': True, 'num_beams': 2}, 'num_beams=2: bert chooses each'),
    ],
)
def test_refusals_are_one_line(
    name: str, prompts: list[str], settings: dict[str, int], words: str
) -> None:
    with pytest.raises(UserError) as error:
        lm.generate(model(name), prompts, **settings)
    assert words in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'prompts', 'fill'),
    [
        ('llama', ['abc', '', 'the cat'], False),
        ('t5', ['the <mask> sat<mask>', 'a<mask>', 'all <mask> or <mask>'], True),
        ('lstm_seq2seq', ['the <mask> sat<mask>', 'a<mask>', 'all <mask> or <mask>'], True),
    ],
)
def test_many_prompts_are_answered_as_each_alone(name: str, prompts: list[str], fill: bool) -> None:
    """Whatever they are put together with, drawn or searched for, and in their own order."""
    ask = functools.partial(lm.generate, model(name), max_new_tokens=7, fill=fill)
    best = ask(prompts, num_beams=3, num_samples=2, length_penalty=0.5)
    alone = [
        text
        for prompt in prompts
        for text in ask([prompt], num_beams=3, num_samples=2, length_penalty=0.5)
    ]
    assert best == alone and len(best) == 2 * len(prompts)
    assert best[0] != best[1]
    greedy = [text for prompt in prompts for text in ask([prompt], temperature=0)]
    assert ask(prompts, temperature=0) == greedy == ask(prompts, num_beams=1)
    drawn = ask(prompts, num_samples=2, seed=3)
    assert drawn[:2] == ask(prompts[:1], num_samples=2, seed=3)
    assert all(text.startswith(prompts[0].split('<mask>')[0]) for text in best[:2])


def test_prompts_whose_answers_end_alike_are_decoded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = []

    def spy(*given: Any, **how: Any) -> decoding.Decoded:
        together.append((len(how['given']), tuple(how['ends'])))
        return decoding.decode(*given, **how)

    monkeypatch.setattr(answers, 'decode', spy)
    lm.generate(
        model('t5'), ['<mask>b<mask>', 'a<mask>', '<mask>c<mask>'], fill=True, max_new_tokens=2
    )
    assert together == [
        (2, (V.eos_id, *V.sentinel_ids[2:])),
        (1, (V.eos_id, *V.sentinel_ids[1:])),
    ]


def test_a_penalty_by_length_decides_how_long_the_best_is() -> None:
    ending = favouring('llama', {V.eos_id: 3.5})
    lengths = [
        len(lm.generate(ending, ['abc'], max_new_tokens=9, num_beams=4, length_penalty=power)[0])
        for power in (-4.0, 4.0)
    ]
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize('name', DECODERS)
def test_a_prefix_language_model_sees_the_prompt_both_ways(name: str) -> None:
    # Of one layer the last given token would see the same either way.
    base = language_model(name, num_layers=2)
    config = replace(base.config, objective=ObjectiveConfig('prefix_lm'))
    trained = replace(base, config=config)
    prompt, new = 'it was so', 5
    tokens = [V.bos_id, *Letters().encode(prompt)]
    given = len(tokens)
    banned = sorted((set(range(12)) | set(range(V.size, 40))) - {V.eos_id})
    for _ in range(new):
        seen = np.zeros((1, CONTEXT), np.int32)
        seen[0, : len(tokens)] = tokens
        places = np.arange(CONTEXT, dtype=np.int32)[None]
        batch = Batch(seen, np.ones_like(seen), places, prefix=places < given)
        logits_V = np.array(base.functional.apply(base.params, batch)[0, len(tokens) - 1])
        logits_V[banned] = -np.inf
        tokens.append(int(logits_V.argmax()))
        if tokens[-1] == V.eos_id:
            break
    said = prompt + Letters().decode(tokens[given:])
    assert lm.generate(trained, [prompt], max_new_tokens=new, temperature=0) == [said]
    assert lm.generate(base, [prompt], max_new_tokens=new, temperature=0) != [said]


def trained_by(objective: str, name: str) -> LanguageModel:
    base = language_model(name, num_layers=2)
    return replace(base, config=replace(base.config, objective=ObjectiveConfig(objective)))


def expected(
    loaded: LanguageModel, source: list[int], given: list[int], new: int, allowed: set[int]
) -> str:
    read = np.array([source], np.int32)
    return Letters().decode(greedy(loaded, given, new, allowed, source=read)[len(given) :])


def test_two_sides_of_a_prefix_language_model_continue() -> None:
    loaded, prompt = trained_by('prefix_lm', 't5'), 'a cat sat'
    source = [V.bos_id, *Letters().encode(prompt)]
    said = expected(loaded, source, [V.pad_id], 5, {V.eos_id})
    assert lm.generate(loaded, [prompt], max_new_tokens=5, temperature=0) == [prompt + said]
    with pytest.raises(UserError, match='fill: a model of objective.name=prefix_lm only continues'):
        lm.generate(loaded, ['a <mask>'], fill=True)


@pytest.mark.parametrize(('prompt', 'fill'), [('a cat', False), ('a <mask> sat', True)])
def test_denoising_says_the_text_from_its_first_blank_on(prompt: str, fill: bool) -> None:
    loaded = trained_by('denoising', 't5')
    parts = prompt.split('<mask>') if fill else [prompt, '']
    first, last = (Letters().encode(part).tolist() for part in parts)
    assert V.mask_id is not None
    source = [V.bos_id, *first, V.mask_id, *last, V.eos_id]
    said = expected(loaded, source, [V.pad_id, V.bos_id, *first], 5, {V.eos_id})
    texts = lm.generate(loaded, [prompt], max_new_tokens=5, temperature=0, fill=fill)
    assert texts == [parts[0] + said]


def test_ul2_continues_behind_its_mode() -> None:
    loaded, prompt = trained_by('ul2', 't5'), 'a cat sat'
    blank = V.sentinel_ids[0]
    source = [V.mode_ids[1], *Letters().encode(prompt), blank, V.eos_id]
    read = np.array([source], np.int32)
    answer = greedy(loaded, [V.pad_id, blank], 5, {V.eos_id, *V.sentinel_ids}, source=read)[2:]
    stops = [i for i, token in enumerate(answer) if token in (V.eos_id, *V.sentinel_ids)]
    said = Letters().decode(answer[: min(stops, default=len(answer))])
    assert lm.generate(loaded, [prompt], max_new_tokens=5, temperature=0) == [prompt + said]


def test_a_decoder_of_ul2_reads_its_inputs_both_ways() -> None:
    loaded, prompt, new = trained_by('ul2', 'llama'), 'it was so', 5
    blank = V.sentinel_ids[0]
    tokens = [V.mode_ids[1], *Letters().encode(prompt).tolist(), blank, V.eos_id, blank]
    given = len(tokens)
    banned = sorted((set(range(12)) | set(range(V.size, 40))) - {V.eos_id})
    while len(tokens) < given + new and (len(tokens) == given or tokens[-1] != V.eos_id):
        seen = np.zeros((1, CONTEXT), np.int32)
        seen[0, : len(tokens)] = tokens
        places = np.arange(CONTEXT, dtype=np.int32)[None]
        batch = Batch(seen, np.ones_like(seen), places, prefix=places < given - 1)
        logits_V = np.array(loaded.functional.apply(loaded.params, batch)[0, len(tokens) - 1])
        logits_V[banned] = -np.inf
        tokens.append(int(logits_V.argmax()))
    said = prompt + Letters().decode(tokens[given:])
    assert lm.generate(loaded, [prompt], max_new_tokens=new, temperature=0) == [said]
