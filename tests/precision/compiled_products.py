"""`python -m tests.precision.compiled_products TOPOLOGY POLICY...`: products of a compiled step.

Prints as JSON, by policy, how many products the optimised program has of each kind: precision and
dtypes, `highest,highest f32 x f32 -> f32`. To a TPU's compiler a product is a convolution; a call
of a GPU's library is told by its name.
"""

import collections
import json
import re
import sys

import lm
from lm.planning.topology import described_devices, find_topology
from lm.training.lowering import lower_step

SIZES = {
    'model.vocab_size': 1024, 'model.num_layers': 2, 'model.d_model': 256, 'model.num_heads': 2,
    'model.scan_layers': True, 'train.batch_size': 8, 'mesh.strategy': 'zero3',
}  # fmt: skip


def products(topology: str, policy: str) -> dict[str, int]:
    """Of one policy on a slice or hosts that are not there."""
    devices = described_devices(find_topology(topology))
    config = lm.load_config('llama_tiny', **SIZES, **{'precision.policy': policy})
    text = lower_step(config, devices).compile().as_text()
    dtypes = dict(re.findall(r'%(\S+) = (\w+)\[', text))
    found: collections.Counter[str] = collections.Counter()
    for line in text.splitlines():
        product = re.search(r'= (\w+)\[\S* (?:convolution|dot)\((.*?)\)', line)
        call = re.search(r'custom_call_target="(\S*matmul\S*)"', line)
        if product:
            precision = re.search(r'operand_precision=\{([^}]*)\}', line)
            factors = [dtypes[name] for name in re.findall(r'%([\w.\-]+)', product[2])]
            kind = f'{" x ".join(factors)} -> {product[1]}'
            found[f'{precision[1] if precision else "default"} {kind}'] += 1
        elif call:
            found[call[1]] += 1
    return dict(found)


if __name__ == '__main__':
    topology, *policies = sys.argv[1:]
    print(json.dumps({policy: products(topology, policy) for policy in policies}))
