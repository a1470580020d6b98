"""Parameters and tokens of models that are often compared, as their papers print them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """A model and where its two numbers are printed."""

    name: str
    params: float
    tokens: float
    source: str

    @property
    def flops(self) -> float:
        """6 N D."""
        return 6.0 * self.params * self.tokens


KNOWN_MODELS = (
    KnownModel('GPT-3', 174.6e9, 300e9, 'Brown et al. 2020, table D.1'),
    KnownModel('Gopher', 280e9, 300e9, 'Hoffmann et al. 2022, table 1'),
    KnownModel('MT-NLG', 530e9, 270e9, 'Hoffmann et al. 2022, table 1'),
    KnownModel('Chinchilla', 70e9, 1.4e12, 'Hoffmann et al. 2022, table 1'),
    KnownModel('OPT-175B', 175e9, 180e9, 'Zhang et al. 2022, section 2.3 (the corpus)'),
    KnownModel('BLOOM', 176.247e9, 366e9, 'Le Scao et al. 2022, table 3'),
    KnownModel('LLaMA-65B', 65.2e9, 1.4e12, 'Touvron et al. 2023, table 2'),
)
"""In the order in which they appeared."""
