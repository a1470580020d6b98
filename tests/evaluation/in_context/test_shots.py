"""Which examples stand before a question, and how many fit."""

import pytest

from lm.errors import UserError
from lm.evaluation.in_context.records import Question
from lm.evaluation.in_context.shots import (
    Fitted,
    Shots,
    asking_choices,
    asking_to_write,
    context_of,
    fitted,
)
from tests.evaluation.in_context.tiny import LINES, question, questions
from tests.generation.tiny import language_model

POOL = questions(30)
EXAMPLE = len('aa q x . ')  # with the delimiter and the separator; the right choice is x or xyz


def test_a_question_never_sees_itself() -> None:
    again = POOL[3]._replace(place='there')  # the same question, recorded twice
    shots = Shots([*POOL, again], seed=0)
    for number, asked in enumerate(POOL):
        drawn = shots.drawn(asked, number, len(POOL) - 1)
        assert asked.prompt not in {shot.prompt for shot in drawn}
        assert len({shot.place for shot in drawn}) == len(drawn)
    with pytest.raises(UserError, match=r'--num_shots=30: here:ab q has only 29 other records'):
        Shots(POOL[:30], seed=0).drawn(question('ab q', 'x', 'xyz'), 0, 30)


def test_minimal_pairs_are_told_apart_by_their_choices() -> None:
    pairs = [question('which', f'{a}x', f'{a}y') for a in 'abcd']
    drawn = Shots(pairs, seed=0).drawn(pairs[1], 1, 3)
    assert {shot.choices for shot in drawn} == {p.choices for p in pairs} - {pairs[1].choices}


def test_draws_depend_on_seed_and_number_alone() -> None:
    shots = Shots(POOL, seed=1)
    four = [shots.drawn(asked, number, 4) for number, asked in enumerate(POOL)]
    assert [shots.drawn(asked, number, 2) for number, asked in enumerate(POOL)] == [
        drawn[:2] for drawn in four
    ]
    assert shots.drawn(POOL[7], 7, 4) == four[7]
    assert Shots(POOL, seed=2).drawn(POOL[7], 7, 4) != four[7]
    # Not one order for all questions.
    assert len({tuple(shot.place for shot in drawn) for drawn in four}) == len(POOL)


def test_all_others_are_drawn_alike() -> None:
    first = [Shots(POOL, seed).drawn(POOL[0], 0, 1)[0].place for seed in range(600)]
    counts = [first.count(other.place) for other in POOL[1:]]
    assert sum(counts) == 600
    assert min(counts) >= 6 and max(counts) <= 42  # 20.7 expected, Poisson: beyond 3 sigma


def test_examples_have_their_answers_and_the_question_none() -> None:
    shown = [question('aa q', 'x', 'xyz', gold=1), question('ab q', 'x', 'xyz')]
    assert context_of(LINES, POOL[9], shown) == 'aa q xyz . ab q x . aj q'
    assert context_of(LINES, POOL[9], []) == 'aj q'


def fit(context: int, num_shots: int, **how: bool) -> list[Fitted | None]:
    ours = language_model('llama', context=context)
    ask = asking_choices(ours, LINES)
    how = {'shots_that_fit': False, 'questions_that_fit': False, **how}
    return fitted(LINES, POOL, Shots(POOL, 0), num_shots, ask, context, **how)


def length(question: Question, shots: list[Question]) -> int:
    """Tokens that are read: bos, all letters, the longest choice without its last."""
    return 1 + len(context_of(LINES, question, shots)) + len(' xyz') - 1


def test_what_fits_is_counted_to_the_token() -> None:
    shots = Shots(POOL, 0)
    needed = max(length(q, shots.drawn(q, i, 2)) for i, q in enumerate(POOL))
    found = fit(needed, 2)
    assert [one.length for one in found if one] == [
        length(q, shots.drawn(q, i, 2)) for i, q in enumerate(POOL)
    ]
    with pytest.raises(UserError) as refused:
        fit(needed - 1, 2)
    full = [i for i, q in enumerate(POOL) if length(q, shots.drawn(q, i, 2)) == needed]
    assert str(refused.value) == (
        f'--num_shots=2: do not fit in model.max_positions={needed - 1} before {len(full)} of 30 '
        f'questions ({POOL[full[0]].place} is the first); 1 fit before all: give --num_shots=1, or '
        '--shots_that_fit'
    )


def test_as_many_as_fit_are_the_first_of_the_draw() -> None:
    context, shots = 1 + 2 * EXAMPLE + len('aa q xyz') + 1, Shots(POOL, 0)
    found = fit(context, 5, shots_that_fit=True)
    for number, (asked, one) in enumerate(zip(POOL, found, strict=True)):
        assert one is not None and one.length <= context
        drawn = shots.drawn(asked, number, 5)
        assert one.context == context_of(LINES, asked, drawn[: one.shots])
        assert length(asked, drawn[: one.shots + 1]) > context
    assert {one.shots for one in found if one} == {1, 2}


def test_a_question_that_does_not_fit_by_itself_is_told() -> None:
    long = question('a' * 30, 'x', 'xyz')
    ours = language_model('llama', context=20)
    ask, shots = asking_choices(ours, LINES), Shots(POOL, 0)
    how = {'shots_that_fit': True}
    with pytest.raises(UserError, match=r'--task_data=here:a+: 34 tokens with its longest answer'):
        fitted(LINES, [POOL[0], long], shots, 1, ask, 20, questions_that_fit=False, **how)
    first, second = fitted(
        LINES, [POOL[0], long], shots, 1, ask, 20, questions_that_fit=True, **how
    )
    assert first is not None and second is None
    with pytest.raises(UserError, match='no question fits in model.max_positions=20'):
        fitted(LINES, [long], shots, 1, ask, 20, shots_that_fit=True, questions_that_fit=True)


def test_a_written_answer_needs_its_room() -> None:
    decoder, two_sided = language_model('llama'), language_model('t5')
    [one] = asking_to_write(decoder, 7)('abc', POOL[0])
    assert one.length == 1 + 3 + 7 - 1
    [one] = asking_to_write(two_sided, 7)('abc', POOL[0])
    assert one.length == 2 + 7 - 1  # the decoder's start and sentinel
    [one] = asking_to_write(two_sided, 7)('abc' * 5, POOL[0])
    assert one.length == 15 + 2  # the encoder's text, sentinel and eos
