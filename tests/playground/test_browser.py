"""The page in a headless Chromium: every setting, the text as it comes, and two at once."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lm
from tests.training.runs import ROOT, Runs, write_text

pytestmark = pytest.mark.slow  # trains a model, starts a server and a browser

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--window-size=1200,1400',
)  # fmt: skip


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('run')
    runs = Runs(write_text(folder / 'words.txt'), folder / 'cache')
    runs.train('llama', folder / 'run')
    return folder / 'run'


@pytest.fixture
def server(run: Path) -> Iterator[tuple[str, 'subprocess.Popen[str]']]:
    with socket.socket() as trial:
        trial.bind(('127.0.0.1', 0))
        port = trial.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, '-m', 'launch', 'playground', f'--workdir={run}', f'--port={port}'],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env={k: v for k, v in os.environ.items() if k != 'PYTEST_CURRENT_TEST'},
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    assert f'http://127.0.0.1:{port} ' in line, line
    yield f'http://127.0.0.1:{port}', process
    process.kill()
    process.wait()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    if CHROMIUM is None or shutil.which('chromedriver') is None:
        pytest.skip('no Chromium with a chromedriver (Debian: chromium, chromium-driver)')
    webdriver = pytest.importorskip('selenium.webdriver', reason='pip install selenium')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f'--user-data-dir={tmp_path / "profile"}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


class Visitor:
    """One tab."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        driver.get(address)
        wait(lambda: driver.find_elements('css selector', 'textarea'))

    def one(self, selector: str) -> Any:
        return self.driver.find_element('css selector', selector)

    def type(self, selector: str, text: str) -> None:
        self.one(selector).send_keys('\ue009a\ue000' + text + '\ue004')  # Ctrl-A, text, Tab

    def click(self, words: str) -> None:
        buttons = self.driver.find_elements('css selector', 'button')
        [button] = [b for b in buttons if b.text.lower() == words]
        self.driver.execute_script('arguments[0].click()', button)

    def value(self, knob: str) -> float:
        return float(self.one(f'.number-{knob} input').get_attribute('value'))

    def slid(self, knob: str) -> float:
        return float(self.one(f'.slider-{knob}').get_attribute('aria-valuenow'))

    def text(self, selector: str = '.answer') -> str:
        """As the page holds it: what the browser would show has other spaces."""
        return str(self.one(selector).get_attribute('textContent'))

    def set(self, **settings: float) -> None:
        for knob, value in settings.items():
            self.type(f'.number-{knob} input', str(value))


def wait(happened: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, 'nothing happened'
        time.sleep(0.03)
    return found


def test_a_visit(run: Path, server: tuple[str, Any], browser: Any) -> None:
    address, process = server
    page = Visitor(browser, address)
    # A slider moves its box, and a box its slider.
    for knob in ('max_new_tokens', 'temperature', 'top_k', 'top_p'):
        before = page.value(knob)
        slider = page.one(f'.slider-{knob} [tabindex]')
        slider.send_keys('\ue012' * 2)  # left
        wait(lambda knob=knob, before=before: page.value(knob) < before, 10)
        assert page.slid(knob) == pytest.approx(page.value(knob))
    page.set(temperature=0.7)
    wait(lambda: page.slid('temperature') == pytest.approx(0.7), 10)

    # A mistake is a line on the page, and the server stays.
    page.type('textarea', 'the')
    page.set(temperature=-1)
    page.click('generate')
    wait(lambda: page.text('.error') == 'temperature=-1.0: must be at least 0 (0 is greedy)')
    page.set(temperature=0.7, top_k=20, top_p=0.9, seed=5, max_new_tokens=300)
    page.click('generate')
    looks = []
    while not browser.find_elements('css selector', 'table.tokens'):
        looks.append(page.text())
        time.sleep(0.03)
    [text] = lm.generate(
        lm.load(run), ['the'], max_new_tokens=300, temperature=0.7, top_k=20, top_p=0.9, seed=5
    )
    assert page.text() == text and page.text('.error') == ''
    parts = {look for look in looks if 3 < len(look) < len(text)}
    assert len(parts) >= 2 and all(text.startswith(part) for part in parts)
    assert len(browser.find_elements('css selector', 'table.tokens tbody tr')) > 50
    assert len(browser.find_elements('css selector', 'svg.map rect')) > 50

    # Two at once wait for each other, and get what each alone would get.
    first = browser.current_window_handle
    browser.switch_to.new_window('tab')
    other = Visitor(browser, address)
    other.type('textarea', 'a')
    other.set(temperature=0, max_new_tokens=40)
    other.click('generate')
    browser.switch_to.window(first)
    page.click('generate')
    wait(lambda: page.text() == text and page.one('table.tokens'))
    page.set(max_new_tokens=4000)
    page.click('generate')
    wait(lambda: len(page.text()) > 20)
    page.click('stop')
    wait(lambda: page.text('.status') == 'stopped', 10)
    assert 20 < len(page.text()) < 4000
    browser.switch_to.window(next(h for h in browser.window_handles if h != first))
    [alone] = lm.generate(lm.load(run), ['a'], max_new_tokens=40, temperature=0)
    wait(lambda: other.text() == alone)

    outside = {
        address_of for address_of in map(requested, browser.get_log('performance'))
        if address_of.startswith(('http', 'ws')) and '//127.0.0.1:' not in address_of
    }  # fmt: skip
    assert outside == set()
    assert [e for e in browser.get_log('browser') if e['level'] == 'SEVERE'] == []

    # Ctrl-C ends it, pages open or not.
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert 'Traceback' not in err


def requested(entry: dict[str, Any]) -> str:
    """What a line of the browser's log asked the network for."""
    message = json.loads(entry['message'])['message']
    if message['method'] not in ('Network.requestWillBeSent', 'Network.webSocketCreated'):
        return ''
    asked = message['params'].get('request', message['params'])
    return str(asked['url'])
