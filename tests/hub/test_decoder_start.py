"""What an encoder-decoder's decoder reads first: as the folder says, in generation and training."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lm
from lm.config import ObjectiveConfig
from lm.generation.language_model import LanguageModel
from lm.generation.rows import never
from lm.hub.export import write_model
from lm.hub.folder import open_folder
from lm.objectives._objective import build_objective
from lm.resolution import resolve_options
from lm.training.load import load_foreign
from tests.generation.tiny import Letters
from tests.hub import peers
from tests.hub.peers import torch
from tests.objectives.rows import text_row

START = 2
"""BART's: the id that ends a text."""
PROMPT, NEW = 'a tale.', 12


def loaded(peer: Any, folder: Path) -> LanguageModel:
    """Ours of a peer, with a tokenizer of letters."""
    return dataclasses.replace(load_foreign(peers.saved(peer, folder)), text_codec=Letters())


def talkative_bart(start: int) -> Any:
    """A peer that says different letters, which depend on what its decoder reads first."""
    peer = peers.peer(
        'bart', seed=2, noise=0.3, decoder_start_token_id=start, forced_eos_token_id=None
    )
    with torch.no_grad():
        decoder = peer.model.decoder
        decoder.layers[-1].final_layer_norm.bias.zero_()
        for weight in (decoder.embed_positions, *(x.self_attn.v_proj for x in decoder.layers)):
            weight.weight.mul_(3)
    return peer


def test_greedy_bart_is_transformers(tmp_path: Path) -> None:
    codec, said = Letters(), set()
    text, bos, eos = codec.encode(PROMPT), [codec.vocabulary.bos_id], [codec.vocabulary.eos_id]
    source = np.concatenate([bos, text, [codec.vocabulary.mask_id], eos])
    for start in (START, 7, codec.vocabulary.pad_id):
        peer = talkative_bart(start)
        model = loaded(peer, tmp_path / str(start))
        [got] = lm.generate(model, [PROMPT], max_new_tokens=NEW, temperature=0)
        given = np.concatenate([[start], bos, text])
        out = peer.generate(
            torch.tensor(source[None]),
            decoder_input_ids=torch.tensor(given[None]),
            generation_config=peers.transformers.GenerationConfig(
                max_new_tokens=NEW,
                suppress_tokens=never(model, eos),
                decoder_start_token_id=start,
                eos_token_id=eos,
                pad_token_id=eos[0],
            ),
        )[0].numpy()
        assert got == PROMPT + codec.decode(out[len(given) :])
        said.add(got)
    assert len(said) == 3


@pytest.mark.parametrize(('name', 'start'), [('bart', START), ('t5', peers.PAD)])
def test_it_is_trained_with_and_written(name: str, start: int, tmp_path: Path) -> None:
    model = loaded(peers.peer(name), tmp_path / 'theirs')
    assert model.decoder_start == start
    config = dataclasses.replace(model.config, objective=ObjectiveConfig('prefix_lm'))
    objective = build_objective(resolve_options(config), Letters.vocabulary)
    batch = objective.example(
        text_row([5, 4], objective.row_len, objective.boundaries), np.random.default_rng(0)
    )
    first = (np.asarray(batch.decoder_segment_ids) > 0) & (np.asarray(batch.decoder_positions) == 0)
    assert (np.asarray(batch.decoder_tokens)[first] == start).all() and first.sum() == 2

    weights, ours = open_folder(tmp_path / 'theirs'), tmp_path / 'ours'
    ours.mkdir()
    write_model(ours, weights.config, weights.params(), Letters.vocabulary, shard_bytes=10**9)
    for file in ('config.json', 'generation_config.json'):
        assert json.loads((ours / file).read_text())['decoder_start_token_id'] == start
    assert open_folder(ours).config == weights.config
