"""HTML pages, examined in a real browser."""

from collections.abc import Callable
from pathlib import Path

from axe_core_python.selenium import Axe
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By


def demand_accessible(
    browser: Chrome, page: Path, theme: str, prepare: Callable[[], None] = lambda: None
) -> set[str]:
    """Open a page in a theme, light or dark, and let axe examine it; returns the rules passed."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page.as_uri())
    paper = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert (paper == "rgba(255, 255, 255, 1)") == (theme == "light")
    prepare()
    found = Axe().run(browser)
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
    return {rule["id"] for rule in found["passes"]}
