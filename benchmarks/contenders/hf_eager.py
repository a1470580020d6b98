"""`transformers` as it comes: built from a config object, its own loss, its own attention.

Nothing is fetched. BERT computes logits at all places, as its users have it (labels of -100).
"""

from typing import Any

import torch
import transformers

from benchmarks._cases import Case

from ._torch_steps import Batch, TorchSteps, random_tokens


def build(case: Case, words: list[str]) -> TorchSteps:
    """Its steps, uncompiled."""
    del words
    return hugging_face(case, compiled=False)


def hugging_face(case: Case, *, compiled: bool) -> TorchSteps:
    """The steps of the case's model in `transformers`."""
    transformers.logging.set_verbosity_error()
    with torch.device('cuda' if torch.cuda.is_available() else 'cpu'):
        model = {'gpt2': _gpt2, 'llama': _llama, 'bert': _bert, 't5': _t5}[case.family](case)
    told = {
        'attention': model.config._attn_implementation,
        'params': sum(p.numel() for p in model.parameters()),
    }
    return TorchSteps(
        case, model, _batches(case), compiled=compiled, told=told, packages=('transformers',)
    )


def _gpt2(case: Case) -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=case.vocabulary, n_positions=case.seq_len, n_embd=case.width,
            n_layer=case.layers, n_head=case.heads, n_inner=case.feed_forward,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        )
    )  # fmt: skip


def _llama(case: Case) -> Any:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=case.vocabulary, hidden_size=case.width,
            intermediate_size=case.feed_forward, num_hidden_layers=case.layers,
            num_attention_heads=case.heads, num_key_value_heads=case.kv_heads,
            max_position_embeddings=case.seq_len, tie_word_embeddings=False, use_cache=False,
        )
    )  # fmt: skip


def _bert(case: Case) -> Any:
    return transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=case.vocabulary, hidden_size=case.width, num_hidden_layers=case.layers,
            num_attention_heads=case.heads, intermediate_size=case.feed_forward,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            max_position_embeddings=case.seq_len,
        )
    )  # fmt: skip


def _t5(case: Case) -> Any:
    config = transformers.T5Config(
        vocab_size=case.vocabulary, d_model=case.width, d_kv=case.width // case.heads,
        d_ff=case.feed_forward, num_layers=case.layers, num_heads=case.heads, dropout_rate=0.0,
        feed_forward_proj='gated-gelu', tie_word_embeddings=False, use_cache=False,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    # Recent versions tie the output matrix to the embedding whatever they are given; T5 1.1 has one
    # of its own.
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    return model


def _batches(case: Case) -> list[Batch]:
    made = random_tokens(case, case.seq_len)
    if case.family == 'bert':
        return [_masked(tokens) for tokens in made]
    if case.decoder_len is not None:
        sides = zip(made, random_tokens(case, case.decoder_len), strict=True)
        return [{'input_ids': tokens, 'labels': targets} for tokens, targets in sides]
    return [{'input_ids': tokens, 'labels': tokens} for tokens in made]


def _masked(tokens: torch.Tensor) -> Batch:
    chosen = torch.rand(tokens.shape) < 0.15
    return {
        'input_ids': tokens.masked_fill(chosen, 4),
        'labels': tokens.masked_fill(~chosen, -100),
    }
