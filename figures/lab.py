"""JupyterLab and a browser, started for a check and ended with it. Nothing is fetched from anywhere."""

import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
)


ATTEMPTS = 4
"""Runs of a notebook whose figure stays empty."""


def lacking() -> str:
    """Which of the two programs is not installed; empty where both are."""
    return ", ".join(name for name in ("chromium", "chromedriver") if not shutil.which(name))


@contextmanager
def jupyterlab(folder: Path, home: Path) -> Iterator[str]:
    """JupyterLab serving `folder`, with the kit's data in `home`; yields an address to append paths to.

    Its configuration, workspaces and kernels' files lie in a temporary folder.
    """
    token = secrets.token_hex(16)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as own:
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
        names += ("JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
        environment = os.environ | {name: f"{own}/{name.lower()}" for name in names} | {"FAP_HOME": str(home)}
        environment.pop("FAP_PROGRESS", None)  # a person looks
        page = Path(environment["JUPYTER_CONFIG_DIR"]) / "labconfig" / "page_config.json"
        page.parent.mkdir(parents=True)
        # Otherwise JupyterLab asks whether it may fetch news.
        page.write_text(
            json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}})
        )
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
        command += ["--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
        command += [f"--IdentityProvider.token={token}"]
        with open(f"{own}/log", "w+") as log:
            server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
            try:
                address = f"http://127.0.0.1:{port}"
                ask = Request(f"{address}/api/status", headers={"Authorization": f"token {token}"})

                def answers() -> bool:
                    assert server.poll() is None, Path(log.name).read_text()[-2000:]
                    try:
                        return urlopen(ask, timeout=5).status == 200
                    except OSError:
                        return False

                wait(answers, 120, "JupyterLab does not answer")
                yield f"{address}/lab/tree/{{}}?token={token}"
            finally:
                server.terminate()  # it ends its kernels
                try:
                    server.wait(20)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()


@contextmanager
def chromium(width: int, height: int) -> Iterator[webdriver.Chrome]:
    """Debian's chromium without a window, with an empty profile."""
    options = Options()
    options.binary_location = shutil.which("chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(
            options=options, service=Service(executable_path=shutil.which("chromedriver"))
        )
        try:
            yield driver
        finally:
            driver.quit()


def wait(ready: Callable[[], Any], seconds: float, problem: str) -> Any:
    """What `ready` returns as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := ready():
                return found
        except StaleElementReferenceException:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{problem} after {seconds:.0f} seconds")


class Page:
    """A notebook open in JupyterLab, and the explorer in it."""

    def __init__(self, driver: webdriver.Chrome, address: str):
        self.driver = driver
        driver.get(address)
        wait(lambda: self.all(".jp-Notebook .jp-Cell"), 180, "the notebook is not open")
        wait(self.idle, 180, "the kernel is not ready")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def idle(self) -> bool:
        """Whether there is a kernel, and it waits.

        The toolbar says idle even before there is one; the status bar hides its words where space is short.
        """
        names = [name.text for name in self.all(".jp-Toolbar-kernelName")]
        waits = self.all(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        return bool(waits) and names not in ([], ["No Kernel"])

    def run_all(self) -> None:
        """Run > Run All Cells."""
        self._click("//*[@id='jp-MainMenu']//li[.//div[text()='Run']]")
        self._click("//li[@data-command='runmenu:run-all']")

    def run_until_drawn(self, patience: float) -> None:
        """Run all cells, and again where the explorer's figure stays empty.

        The widget loader gives plotly's five megabytes two seconds; a busy machine may need more at first.
        """
        for _ in range(ATTEMPTS):
            self.run_all()
            with suppress(AssertionError):
                wait(lambda: not self.finished(), 10, "no cell is running")
            wait(self.finished, patience, "the notebook has not ended")
            with suppress(AssertionError):
                wait(lambda: self.all(".fap-explorer .js-plotly-plot") and self.drawn()["lines"], 20, "empty")
                return
        raise AssertionError(f"the figure is empty, {ATTEMPTS} times")

    def _click(self, path: str) -> None:
        wait(lambda: self.driver.find_elements(By.XPATH, path), 20, f"no menu entry {path}")[0].click()

    @property
    def explorer(self) -> WebElement:
        return self.all(".fap-explorer")[0]

    def words(self) -> list[str]:
        """The lines below the picture."""
        return self.explorer.find_element(By.CSS_SELECTOR, ".widget-html-content").text.split("\n")

    def finished(self) -> bool:
        """Whether every code cell has a number and none is running."""
        prompts = [prompt.text for prompt in self.all(".jp-CodeCell .jp-InputPrompt")]
        return self.idle() and all(any(sign.isdigit() for sign in prompt) for prompt in prompts)

    def errors(self) -> list[str]:
        """Tracebacks in the notebook, and what the browser's console calls severe."""
        severe = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [output.text for output in self.all("[data-mime-type$='stderr'], .jp-RenderedError")] + severe

    def control(self, name: str, part: str) -> WebElement:
        path = f".//label[text()='{name}']/..//*[contains(@class, '{part}') or name() = '{part}']"
        return self.explorer.find_element(By.XPATH, path)

    def select(self, name: str, option: str) -> None:
        Select(self.control(name, "select")).select_by_visible_text(option)

    def press(self, name: str, key: str = Keys.ARROW_RIGHT, times: int = 1) -> None:
        """Move a slider by arrow keys."""
        self.control(name, "noUi-handle").send_keys(*[key] * times)

    def pixels(self) -> np.ndarray:
        """The plotly figure as the browser shows it, (H, W, 3) integers."""
        picture = wait(self._screenshot, 60, "the figure cannot be seen")
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)

    def _screenshot(self) -> bytes:
        return self.explorer.find_element(By.CSS_SELECTOR, ".js-plotly-plot").screenshot_as_png

    def photo(self) -> bytes:
        """The whole explorer as a PNG, with nothing lying over it."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.explorer)
        self.driver.execute_script("document.activeElement.blur()")
        time.sleep(1)
        return wait(lambda: self.explorer.screenshot_as_png, 60, "the explorer cannot be seen")

    def panel(self, number: int) -> np.ndarray:
        """One picture of the figure as the browser shows it, (H, W, 3) integers: 0 the image, 1 the mask."""
        script = """
            const plot = document.querySelector('.fap-explorer .js-plotly-plot');
            const [inner, outer] = [plot.querySelectorAll('.imagelayer image')[arguments[0]], plot]
                .map(one => one.getBoundingClientRect());
            return [inner.left - outer.left, inner.top - outer.top, inner.width, inner.height];
        """
        left, top, width, height = map(round, self.driver.execute_script(script, number))
        return self.pixels()[top : top + height, left : left + width]

    def cut(self) -> float:
        """How many pixels of the explorer lie right of what its cell shows."""
        script = """
            const plot = document.querySelector('.fap-explorer .js-plotly-plot .main-svg');
            const cell = plot.closest('.jp-OutputArea-output').getBoundingClientRect();
            return plot.getBoundingClientRect().right - Math.min(cell.right, window.innerWidth);
        """
        return self.driver.execute_script(script)

    def alternatives(self) -> list[str]:
        """The words of all pictures among the outputs."""
        return [picture.get_attribute("alt") or "" for picture in self.all(".jp-OutputArea-output img")]

    def unset(self) -> list[str]:
        """Lines and dots of the figure that lost their x or y on the way to the browser."""
        script = """
            const plot = document.querySelector('.fap-explorer .js-plotly-plot');
            return plot.data.filter(one => one.type == 'scatter' && one.showlegend !== undefined
                && !(one.x && one.y)).map(one => one.meta);
        """
        return self.driver.execute_script(script)

    def drawn(self) -> dict[str, Any]:
        """The lines and pictures of the plotly figure, as the browser has them."""
        script = """
            const plot = document.querySelector('.fap-explorer .js-plotly-plot');
            return {lines: [...plot.querySelectorAll('.shapelayer path')].map(line => line.getAttribute('d')),
                    images: [...plot.querySelectorAll('.imagelayer image')].map(
                        image => image.getAttribute('href') || image.getAttribute('xlink:href'))};
        """
        return self.driver.execute_script(script)
