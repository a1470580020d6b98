"""Precision policies: which number format each part of a run is kept and computed in.

Imports no jax, so that a plan reads them too. Dtypes are named as NumPy and ml_dtypes name them.
"""

from dataclasses import dataclass, replace

from lm.config import PrecisionConfig, require


@dataclass(frozen=True)
class Quantization:
    """Formats of 8 bits in which products with weights are computed, each array with a scale.

    A scale is the largest magnitude over that of the format ("current scaling": of the array at
    hand, never of an earlier step). Forwards each token has one, so that none depends on another,
    and each output of a weight. Where nothing is said, the dtype is that of the computation.

    Attributes:
      weights: of the layers' matrices, as their products read them.
      inputs: of what these are multiplied with.
      gradients: of the gradient of what they give, in both products of the backward pass, whose
        factors have one scale an array. Without it the gradient passes the rounding as if there
        were none (the straight-through estimator; Jacob et al. 2018, section 3), and the backward
        pass is of the computation's dtype.
      tables: of the matrices between tokens or positions and vectors, the head's too, and of what
        multiplies a recurrent state: rounded, and then computed with in the computation's dtype.
    """

    weights: str
    inputs: str | None = None
    gradients: str | None = None
    tables: str | None = None


@dataclass(frozen=True)
class Policy:
    """The number formats of a run.

    Attributes:
      name: as in `precision.policy`.
      param_dtype: parameters at rest, their gradients, and the optimizer's moments (Adafactor's
        means are fp32 always). fp32 beside a narrower `compute_dtype` are master weights
        (Micikevicius et al. 2018, section 3.1).
      compute_dtype: activations and the operands of matrix products; a weight's gradient is summed
        over rows and devices as that product gives it, with sums in fp32.
      logits_dtype: of the logits that a training step keeps for its backward pass; their softmax
        and loss are fp32 all the same.
      matmul_precision: `highest` means fp32 multiplies; JAX's own default is bf16 passes on TPU
        and TF32 on recent GPUs.
      quantization: of products with weights; None: there is none.
      scales_loss: the loss is multiplied before the backward pass, since gradients would underflow.
      stochastic_rounding: what an update makes of parameters and moments is rounded up or down by
        chance, with the exact value as the mean.

    Softmax, norms, losses and the arithmetic of updates are fp32 under every policy; so are logits
    outside a training step.
    """

    name: str
    param_dtype: str
    compute_dtype: str
    logits_dtype: str
    matmul_precision: str
    quantization: Quantization | None = None
    scales_loss: bool = False
    stochastic_rounding: bool = False

    @property
    def peak(self) -> str:
        """By which of a device's peaks MFU is told; products of 8 bits count by that of 16."""
        return TF32 if self.matmul_precision == TF32 else self.compute_dtype

    @property
    def products(self) -> str:
        """In which formats a layer's products with weights are, in words."""
        how = self.quantization
        if how is None:
            return self.peak
        words = f'{how.inputs or self.compute_dtype} x {how.weights}'
        return f'{words}, backwards {how.gradients or self.compute_dtype}'


TF32 = 'tensorfloat32'
FP32, BF16, FP16 = 'float32', 'bfloat16', 'float16'
E4M3, E5M2, INT8 = 'float8_e4m3fn', 'float8_e5m2', 'int8'

POLICIES = {
    policy.name: policy
    for policy in (
        Policy('fp32', FP32, FP32, FP32, 'highest'),
        Policy('tf32', FP32, FP32, FP32, TF32),
        Policy('bf16_mixed', FP32, BF16, BF16, 'default'),
        Policy('bf16_pure', BF16, BF16, BF16, 'default'),
        Policy('fp16_mixed', FP32, FP16, FP16, 'default', scales_loss=True),
        Policy(
            'int8_qat', FP32, BF16, BF16, 'default', Quantization(INT8, inputs=INT8, tables=INT8)
        ),
        Policy('int8_weight_only', FP32, BF16, BF16, 'default', Quantization(INT8, tables=INT8)),
        # Micikevicius et al. 2022, section 3: e4m3 forwards, e5m2 for gradients.
        Policy(
            'fp8',
            FP32,
            BF16,
            BF16,
            'default',
            Quantization(E4M3, inputs=E4M3, gradients=E5M2),
        ),
    )
}


def policy_of(config: PrecisionConfig) -> Policy:
    """The policy of a config in which `auto` has been replaced.

    Raises:
      UserError: stochastic rounding of parameters that are kept in fp32.
    """
    policy = POLICIES[config.policy]
    require(
        not config.stochastic_rounding or policy.param_dtype != FP32,
        f'precision.stochastic_rounding=True: precision.policy={policy.name} keeps parameters in '
        'fp32, where no update vanishes; it is for bf16_pure',
    )
    return replace(policy, stochastic_rounding=config.stochastic_rounding)


def default_policy_name(platform: str | None = None) -> str:
    """What `precision.policy=auto` stands for here: bf16 is emulated, and slow, on CPU."""
    if platform is None:
        import jax

        platform = jax.default_backend()
    return 'fp32' if platform == 'cpu' else 'bf16_mixed'
