"""`python -m tests.precision.tpu_products POLICY...`: the products of a step compiled for a TPU.

Prints as JSON, by policy, how many products there are of each precision and dtype of result.
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


def products(policy: str) -> dict[str, int]:
    """Of the optimised program, where a product is a convolution: `precision dtype` -> how many."""
    devices = described_devices(find_topology('v5e:2x2'))
    config = lm.load_config('llama_tiny', **SIZES, **{'precision.policy': policy})
    found: collections.Counter[str] = collections.Counter()
    for line in lower_step(config, devices).compile().as_text().splitlines():
        product = re.search(r'= (\w+)\[\S* (convolution|dot)\(', line)
        if product:
            precision = re.search(r'operand_precision=\{([^}]*)\}', line)
            found[f'{precision[1] if precision else "default"} {product[1]}'] += 1
    return dict(found)


if __name__ == '__main__':
    print(json.dumps({policy: products(policy) for policy in sys.argv[1:]}))
