"""Models of `transformers`, small, with every parameter perturbed, and what they compute.

At its own initialisation every bias is 0 and every norm's scale 1, so a tensor that is dropped or
swapped would not show.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault('HF_HUB_OFFLINE', '1')
torch = pytest.importorskip('torch', reason='needs torch, of the extra test')
transformers = pytest.importorskip('transformers', reason='needs transformers, of the extra test')
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

VOCABULARY = 97
PAD = 0
LLAMA = {
    'vocab_size': VOCABULARY,
    'hidden_size': 32,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'intermediate_size': 56,
    'max_position_embeddings': 128,
    'pad_token_id': PAD,
}
GPT_NEOX = {
    'vocab_size': VOCABULARY,
    'hidden_size': 32,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'intermediate_size': 56,
    'max_position_embeddings': 128,
}
T5 = {
    'vocab_size': VOCABULARY,
    'd_model': 32,
    'num_layers': 2,
    'num_heads': 4,
    'd_kv': 6,
    'd_ff': 56,
    'decoder_start_token_id': PAD,
}
SIZES: dict[str, dict[str, Any]] = {
    'bert': {
        'vocab_size': VOCABULARY,
        'hidden_size': 32,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'intermediate_size': 56,
        'max_position_embeddings': 48,
        'pad_token_id': None,  # its embedding's gradient would be left out
    },
    'roberta': {
        'vocab_size': VOCABULARY,
        'hidden_size': 32,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'intermediate_size': 56,
        'max_position_embeddings': 49,
        'type_vocab_size': 1,
        'pad_token_id': PAD,
    },
    'modernbert': {
        'vocab_size': VOCABULARY,
        'hidden_size': 32,
        'num_hidden_layers': 5,
        'num_attention_heads': 4,
        'intermediate_size': 56,
        'max_position_embeddings': 48,
        'local_attention': 6,
        'pad_token_id': None,  # its embedding's gradient would be left out
    },
    'gpt2': {
        'vocab_size': VOCABULARY,
        'n_embd': 32,
        'n_layer': 2,
        'n_head': 4,
        'n_inner': 56,
        'n_positions': 48,
        'bos_token_id': 1,
        'eos_token_id': 1,
    },
    'bloom': {'vocab_size': VOCABULARY, 'hidden_size': 36, 'n_layer': 2, 'n_head': 6},
    'gpt_neox': GPT_NEOX,
    'gpt_neox_in_turn': {
        **GPT_NEOX,
        'use_parallel_residual': False,
        'hidden_act': 'gelu_new',
        'rope_parameters': {
            'rope_type': 'default',
            'partial_rotary_factor': 1.0,
            'rope_theta': 500.0,
        },
        'tie_word_embeddings': True,
    },
    'bart': {
        'vocab_size': VOCABULARY,
        'd_model': 32,
        'encoder_layers': 2,
        'decoder_layers': 2,
        'encoder_attention_heads': 4,
        'decoder_attention_heads': 4,
        'encoder_ffn_dim': 56,
        'decoder_ffn_dim': 56,
        'max_position_embeddings': 48,
        'pad_token_id': PAD,
    },
    't5': {**T5, 'feed_forward_proj': 'gated-gelu', 'tie_word_embeddings': False},
    't5_1_0': T5,
    'llama': LLAMA,
    'llama_3_1': {
        **LLAMA,
        'rope_parameters': {
            'rope_type': 'llama3',
            'rope_theta': 1e4,
            'factor': 8.0,
            'low_freq_factor': 1.0,
            'high_freq_factor': 4.0,
            'original_max_position_embeddings': 64,
        },
        'tie_word_embeddings': True,
    },
    'llama_linear': {**LLAMA, 'rope_parameters': {'rope_type': 'linear', 'factor': 4.0}},
    'mistral': {**LLAMA, 'sliding_window': 5, 'head_dim': 12},
    'qwen2': {**LLAMA},
    'qwen2_window': {
        **LLAMA,
        'use_sliding_window': True,
        'sliding_window': 5,
        'max_window_layers': 0,
    },
    'qwen3': {**LLAMA, 'head_dim': 12},
}
CLASSES = {
    'bert': 'BertForMaskedLM',
    'roberta': 'RobertaForMaskedLM',
    'modernbert': 'ModernBertForMaskedLM',
    'gpt2': 'GPT2LMHeadModel',
    'bloom': 'BloomForCausalLM',
    'gpt_neox': 'GPTNeoXForCausalLM',
    'bart': 'BartForConditionalGeneration',
    't5': 'T5ForConditionalGeneration',
    'llama': 'LlamaForCausalLM',
    'mistral': 'MistralForCausalLM',
    'qwen2': 'Qwen2ForCausalLM',
    'qwen3': 'Qwen3ForCausalLM',
}


def model_class(name: str) -> Any:
    """The class of a model of `SIZES`: that of the longest name which its own begins with."""
    known = max((key for key in CLASSES if name.startswith(key)), key=len)
    return getattr(transformers, CLASSES[known])


def peer(name: str, seed: int = 0, noise: float = 0.1, **changes: Any) -> Any:
    """A model of `SIZES`, in fp32, for evaluation, with noise on every parameter."""
    torch.manual_seed(seed)
    config = model_class(name).config_class(**{**SIZES[name], **changes})
    config._attn_implementation = 'eager'
    model = model_class(name)(config).eval()
    if name == 't5':
        # Recent versions tie the head to the embedding, T5 1.1's is its own.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() * 0.1)
        model.config.tie_word_embeddings = False
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


def saved(model: Any, folder: Path, dtype: Any = None, **how: Any) -> Path:
    """The folder that `save_pretrained` writes."""
    if dtype is not None:
        model = model.to(dtype)
    model.save_pretrained(folder, **how)
    return folder


def logits(model: Any, tokens: np.ndarray, mask: np.ndarray, decoder: Any = None) -> np.ndarray:
    """Logits of rows, fp32; `mask` is 1 where a token is no padding."""
    with torch.no_grad():
        return _forward(model, tokens, mask, decoder).float().numpy()


def loss(
    model: Any,
    tokens: np.ndarray,
    mask: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    decoder: Any = None,
) -> Any:
    """Nats a target, weighted; a torch scalar with its graph."""
    logits_BTV = _forward(model, tokens, mask, decoder)
    flat = logits_BTV.flatten(0, 1), torch.tensor(targets).flatten()
    nats = torch.nn.functional.cross_entropy(*flat, reduction='none')
    return (nats * torch.tensor(weights).flatten()).sum() / weights.sum()


def _forward(model: Any, tokens: np.ndarray, mask: np.ndarray, decoder: Any) -> Any:
    fields = {'input_ids': torch.tensor(tokens), 'attention_mask': torch.tensor(mask)}
    if decoder is not None:
        fields['decoder_input_ids'] = torch.tensor(decoder)
    return model(**fields).logits


def rows(seed: int, count: int, length: int) -> np.ndarray:
    """Random ids, none of them padding."""
    return np.random.default_rng(seed).integers(1, VOCABULARY, (count, length))
