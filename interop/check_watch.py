"""Opens the page of `asap watch` in a headless Chromium while a search runs: check_watch.py ASAP FOLDER."""

import re
import subprocess
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SMALL = [
    "--set", "network.channels=4", "--set", "network.cells=3", "--set", "network.nodes=2", "--set", "data.limit=400",
    "--set", "search.epochs=6",
]


def main() -> None:
    asap, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True)
    search = [asap, "search", *SMALL, "--out"]
    subprocess.run([*search, folder / "first"], check=True, capture_output=True)
    server = subprocess.Popen([asap, "watch", folder, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", server.stderr.readline()).group()
        follow(address, folder, lambda: subprocess.Popen([*search, folder / "second"], stderr=subprocess.DEVNULL,
                                                         stdout=subprocess.DEVNULL))
    finally:
        server.terminate()
    print(f"watch: list, live progress, filter and curves work; screenshots in {folder}")


def follow(address: str, folder: Path, begin) -> None:
    options = webdriver.ChromeOptions()
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1600"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options)
    try:
        wait = WebDriverWait(browser, 120)

        def rows():
            return [row.text for row in browser.find_elements(By.CSS_SELECTOR, "#runs tr")]

        def lines():
            return browser.find_elements(By.CSS_SELECTOR, "#charts polyline")

        browser.get(address)
        wait.until(lambda _: len(rows()) == 1 and "finished" in rows()[0])
        wait.until(lambda _: lines())
        single = len(lines())

        second = begin()
        wait.until(lambda _: any(re.search(r"second.* [1-9]\d* of 6", row) for row in rows()))
        assert second.wait() == 0
        wait.until(lambda _: sum("finished" in row for row in rows()) == 2)

        for box in browser.find_elements(By.CSS_SELECTOR, "#runs input"):
            if not box.is_selected():
                box.click()
        wait.until(lambda _: len(lines()) == 2 * single)
        for width in [1280, 420]:
            browser.set_window_size(width, 1600)
            browser.save_screenshot(str(folder / f"watch-{width}.png"))
        browser.find_element(By.ID, "filter").send_keys("second")
        wait.until(lambda _: len(rows()) == 1 and "second" in rows()[0])
        browser.find_element(By.LINK_TEXT, "open").click()
        wait.until(lambda _: "Search on" in browser.title)
        for width in [1280, 420]:
            browser.set_window_size(width, 3000)
            browser.save_screenshot(str(folder / f"report-{width}.png"))
        faults = [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
        assert not faults, faults
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
