"""The page itself, by NiceGUI: prompt and settings above, what the model says below."""

import sys
from concurrent.futures import CancelledError
from functools import partial
from typing import NamedTuple

from nicegui import app, run, ui

from lm.errors import UserError
from lm.generation.begin import BLANK
from lm.generation.language_model import LanguageModel
from lm.inspection.attention import AttentionMap
from lm.playground.admission import Admission
from lm.playground.answer import Answer, Settings
from lm.playground.shown import map_svg, map_words, tokens_html
from lm.playground.turns import Turn, Turns, settings_of

LOOK_SECONDS = 0.1
"""Between two looks for more text."""
STYLE = """
.answer { white-space: pre-wrap; overflow-wrap: anywhere; min-height: 4rem; line-height: 1.6 }
.tokens { font-size: .95rem; line-height: 2; overflow-wrap: anywhere }
.tokens code { white-space: pre } .tokens .came { font-weight: 600 }
.token { padding: .15rem 0; border-radius: 3px; white-space: pre-wrap }
table.tokens { line-height: 1.5; border-collapse: collapse } table.tokens td, table.tokens th {
  text-align: left; padding: .1rem 1rem .1rem 0; border-bottom: 1px solid rgba(128,128,128,.3) }
.map { fill: currentColor; font: 11px ui-monospace, monospace } .map rect { fill: #1668b8 }
.map .frame { fill: none; stroke: rgba(128,128,128,.5) }
.body--dark .map rect { fill: #6db8ff } .body--dark .map .frame { fill: none }
.error { color: #b3261e } .body--dark .error { color: #ff8a80 }
.hint { opacity: .75; font-size: .9rem }
"""


class Knob(NamedTuple):
    """A setting: a slider for the usual values, and a number box for all.

    Attributes:
      name: of the field of `Settings`.
      words: what it is called.
      low, high, step: of the slider.
    """

    name: str
    words: str
    low: float
    high: float
    step: float


KNOBS = (
    Knob('max_new_tokens', 'new tokens at most', 1, 512, 1),
    Knob('temperature', 'temperature (0: the likeliest)', 0, 2, 0.05),
    Knob('top_k', 'top-k (0: all tokens)', 0, 200, 1),
    Knob('top_p', 'top-p', 0.05, 1, 0.05),
)
HINTS = {
    'decoder': 'The model goes on from the prompt.',
    'encoder': f'The model fills each {BLANK} of the prompt with one token.',
    'encoder_decoder': f'The model fills each {BLANK} of the prompt, or goes on from one without.',
}


def serve(
    model: LanguageModel, name: str, *, host: str, port: int, token: str | None, ready: str
) -> None:
    """Serves the page until the process is interrupted.

    Args:
      model: who answers.
      name: what it is called on the page.
      host, port: where the page is, free.
      token: who brings it may see the page; None: all may.
      ready: a line for stderr once the page is there.
    """
    turns = Turns(model)
    if token is not None:
        app.add_middleware(Admission, token=token)
    app.on_startup(lambda: print(ready, file=sys.stderr, flush=True))
    app.on_shutdown(turns.close)
    ui.run(
        lambda: Page(turns, name).build(), host=host, port=port, title=f'{name} - lm playground',
        dark=None, reload=False, show=False, show_welcome_message=False, tailwind=False,
        timeout_graceful_shutdown=2,  # open pages do not hold up the end
    )  # fmt: skip


class Page:
    """One visitor's page."""

    def __init__(self, turns: Turns, name: str) -> None:
        self._turns, self._name = turns, name
        self._turn: Turn | None = None
        self._answer: Answer | None = None
        self._maps: list[AttentionMap] = []

    def build(self) -> None:
        """Puts the page together."""
        ui.add_css(STYLE)
        model = self._turns.model
        family, config = model.functional.family, model.config.model
        with ui.column().style('width: 100%; max-width: 68rem; margin: 0 auto; gap: 1rem'):
            ui.label(self._name).style('font-size: 1.4rem; font-weight: 600')
            ui.label(
                f'{config.name}, {config.num_layers} layers, width {config.d_model}, a context of '
                f'{model.context} tokens. {HINTS[family]}'
            ).classes('hint')
            self._prompt = ui.textarea('prompt').props('outlined autogrow').style('width: 100%')
            self._prompt.mark('prompt')
            self._build_settings(family)
            with ui.row().style('align-items: center'):
                self._generate = ui.button('Generate', on_click=self._ask).mark('generate')
                self._stop = ui.button('Stop', on_click=self._halt).props('outline')
                self._stop.disable()
                self._status = ui.label().classes('hint status')
            self._error = ui.label().classes('error')
            self._text = ui.label().classes('answer')
            with ui.expansion('Token probabilities').style('width: 100%') as self._tokens_box:
                ui.label(
                    'Before temperature, top-k and top-p: red is unlikely, green likely.'
                ).classes('hint')
                self._tokens = ui.html('', sanitize=False)
            with ui.expansion('Attention').style('width: 100%'):
                self._build_attention()
        self._timer = ui.timer(LOOK_SECONDS, self._look, active=False)
        ui.context.client.on_disconnect(self._halt)

    def _build_settings(self, family: str) -> None:
        usual = Settings()
        self._numbers: dict[str, ui.number] = {}
        knobs = [k for k in KNOBS if family != 'encoder' or k.name != 'max_new_tokens']
        with ui.grid(columns='repeat(auto-fit, minmax(28rem, 1fr))').style(
            'width: 100%; gap: 0 3rem'
        ):
            for knob in knobs:
                with ui.row().style('width: 100%; align-items: center; flex-wrap: nowrap'):
                    ui.label(knob.words).style('width: 9rem; flex: none')
                    slider = ui.slider(min=knob.low, max=knob.high, step=knob.step)
                    number = ui.number(value=getattr(usual, knob.name), step=knob.step)
                    number.props('dense outlined').style('width: 6rem; flex: none')
                    slider.classes(f'slider-{knob.name}')
                    number.classes(f'number-{knob.name}')
                    # A slider cannot be empty, as a box can, which settings_of refuses.
                    slider.bind_value(number, backward=partial(_or_else, knob.low))
                    self._numbers[knob.name] = number
            with ui.row().style('width: 100%; align-items: center; flex-wrap: nowrap'):
                ui.label('seed').style('width: 9rem; flex: none')
                seed = ui.number(value=usual.seed, step=1).props('dense outlined')
                self._numbers['seed'] = seed.classes('number-seed').style('width: 9rem')

    def _build_attention(self) -> None:
        config = self._turns.model.config.model
        with ui.row().style('align-items: center'):
            self._layer = ui.select([*range(config.num_layers)], value=0, label='layer')
            self._head = ui.select([*range(config.num_heads)], value=0, label='head')
            self._kind = ui.select(['decoder'], value='decoder', label='attention')
            for choice in (self._layer, self._head, self._kind):
                choice.style('min-width: 6rem')
            self._kind.set_visibility(False)
        self._map_words = ui.label('Generate first.').classes('hint')
        self._map = ui.html('', sanitize=False).style('overflow-x: auto; width: 100%')
        self._layer.on_value_change(self._show_layer)
        self._head.on_value_change(self._draw)
        self._kind.on_value_change(self._draw)

    async def _ask(self) -> None:
        """Asks, and shows what comes; a mistake is a line on the page."""
        self._error.text = self._tokens.content = self._map.content = self._text.text = ''
        self._answer, self._maps = None, []
        try:
            settings = settings_of({name: box.value for name, box in self._numbers.items()})
            turn = self._turn = self._turns.ask(self._prompt.value or '', settings)
        except UserError as error:
            self._error.text = str(error)
            return
        self._generate.disable()
        self._stop.enable()
        self._timer.activate()
        try:
            self._answer = await run.io_bound(turn.done.result)
        except UserError as error:
            self._error.text = str(error)
        except CancelledError:
            pass  # stopped before its turn
        finally:
            self._timer.deactivate()
            self._stop.disable()
            self._generate.enable()
            self._status.text = 'stopped' if turn.stopped else ''
        if self._answer is None:
            return
        self._text.text = self._answer.text
        self._tokens.content = tokens_html(self._answer.tokens)
        await self._show_layer()

    def _look(self) -> None:
        """Shows how far the answer has come."""
        if self._turn is not None:
            self._text.text = self._turn.text
            self._status.text = 'generating' if self._turn.begun else 'waiting for its turn'

    def _halt(self) -> None:
        if self._turn is not None:
            self._turn.stop()

    async def _show_layer(self) -> None:
        """Computes the maps of the chosen layer."""
        if self._answer is None:
            return
        try:
            future = self._turns.maps(self._answer, self._layer.value)
            self._maps = await run.io_bound(future.result) or []
        except UserError as error:
            self._map_words.text = str(error)
            return
        heads = self._maps[0].weights_LHTS.shape[1]  # a recurrent decoder has one
        self._head.set_options([*range(heads)], value=min(self._head.value, heads - 1))
        kinds = [each.kind for each in self._maps]
        self._kind.set_visibility(len(kinds) > 1)
        self._kind.set_options(
            kinds, value=self._kind.value if self._kind.value in kinds else kinds[0]
        )
        self._draw()

    def _draw(self) -> None:
        for each in self._maps:
            if each.kind == self._kind.value:
                self._map_words.text = map_words(each, self._head.value)
                self._map.content = map_svg(each, self._head.value)


def _or_else(value: float, found: float | None) -> float:
    return value if found is None else found
