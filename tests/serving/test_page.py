"""The page to try a model on, in a real browser."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stands import Site, Slow, open_model, save, served, slow_model, texts

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
_QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_PATIENCE_MS = 120_000  # browsers are slow on a busy machine


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=_QUIET, headless=True
        )
        yield context
        context.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Return an open tab; the test fails if a script of the page does, or asks another host."""
    wrong: list[str] = []
    tab = browser.new_page()
    tab.set_default_timeout(_PATIENCE_MS)
    tab.on("pageerror", lambda problem: wrong.append(str(problem)))
    tab.on("console", lambda line: wrong.append(line.text) if "Content Security" in line.text else None)
    tab.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("http://127.0.0.1:", "blob:")) else None)
    yield tab
    tab.close()
    assert not wrong


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    return save(tmp_path_factory.mktemp("film") / "film", "full", tiny_encoder)


def test_typed_texts_are_labeled_by_keyboard_alone(page: Any, film: Path) -> None:
    many = texts(4)
    expected = open_model(film).predict_proba(many)
    with Site(served(film)) as url:
        page.goto(url)
        page.wait_for_selector("#text")
        while page.evaluate("document.activeElement.id") != "text":
            page.keyboard.press("Tab")
        page.keyboard.insert_text("\n".join(["", *many, "  "]))
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#list > li")
        assert page.locator("#status").inner_text() == "4 texts labeled."
        assert page.evaluate("document.activeElement.id") == "results-title"
        labels = page.locator("#list > li h3").all_inner_texts()
        assert labels == open_model(film).predict(many)
        assert page.locator("#list .text").all_inner_texts() == many
        best = page.locator("#list .best .share").all_inner_texts()
        assert best == [f"{p:.1f}%" for p in 100 * expected.max(axis=1)]
        widths = page.locator("#list .best .bar").evaluate_all("bars => bars.map(b => parseFloat(b.style.width))")
        np.testing.assert_allclose(widths, 100 * expected.max(axis=1), atol=0.01)


def test_card_says_what_the_model_is(page: Any, film: Path) -> None:
    model = served(film)
    macro_f1 = {"value": 0.91234, "low": 0.88, "high": 0.94, "higher_is_better": True}
    loss = {"value": 0.3, "low": 0.2, "high": 0.4, "higher_is_better": False}
    model.model.card["metrics"] = {"holdout_intervals": {"macro_f1": macro_f1, "log_loss": loss}}
    with Site(model) as url:
        page.goto(url)
        page.wait_for_selector("#card table")
        card = page.locator("#card").inner_text()
        for words in (
            "films",
            "Version 1, made by full",
            "negative",
            "positive",
            "Macro F1",
            "0.912",
            "0.880 \u2013 0.940",
        ):
            assert words in card
        assert "Log loss (lower is better)" in card
        assert "At most 32 tokens" in card
        assert "its beginning is read; the rest is cut off" in card


def test_a_file_is_labeled_and_downloaded(page: Any, film: Path, tmp_path: Path) -> None:
    many = [*texts(238), 'a "good", really; good\nfilm', "  "]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8-sig") as handle:
        csv.writer(handle).writerows([("id", "Text", "note"), *((i, t, "é") for i, t in enumerate(many))])
    with Site(served(film), max_texts=50) as url:
        page.goto(url)
        page.wait_for_selector("#text")
        page.set_input_files("#file", tmp_path / "rows.csv")
        page.wait_for_selector("#column-0")
        assert page.locator("#file-state").inner_text() == "rows.csv: 240 rows"
        assert page.locator("#column-0 option:checked").inner_text() == "Text"
        page.click("#go")
        page.wait_for_selector("#list > li")
        assert page.locator("#status").inner_text() == "240 texts labeled."
        assert page.locator("#list > li").count() == 100
        assert page.locator("#more").inner_text() == "140 more are in the download."
        with page.expect_download() as found:
            page.click("#download")
        found.value.save_as(tmp_path / "labeled.csv")
    with (tmp_path / "labeled.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["id", "Text", "note", "prediction", "p_negative", "p_positive"]
    assert [r["Text"] for r in rows] == many
    model = open_model(film)
    assert [r["prediction"] for r in rows] == model.predict(many)
    got = [[float(r["p_negative"]), float(r["p_positive"])] for r in rows]
    np.testing.assert_allclose(got, model.predict_proba(many), atol=1e-5)


def test_files_with_other_signs_and_encodings(page: Any, film: Path, tmp_path: Path) -> None:
    cases = {
        "semicolon.csv": b"a;review text;b\n1;gut, ganz gut;2\n",
        "tab.tsv": b"a\treview text\tb\n1\tgut, ganz gut\t2\n",
        "windows.csv": 'a,review text,b\r\n1,"gut, ganz gut äöü",2\r\n'.encode("cp1252"),
        "utf16.csv": 'a,review text,b\n1,"gut, ganz gut äöü",2'.encode("utf-16"),
    }
    with Site(served(film)) as url:
        page.goto(url)
        page.wait_for_selector("#text")
        for name, content in cases.items():
            (tmp_path / name).write_bytes(content)
            page.set_input_files("#file", tmp_path / name)
            page.get_by_text(f"{name}: 1 rows", exact=True).wait_for()
            assert page.locator("#column-0 option:checked").inner_text() == "review text"
            page.click("#go")
            page.wait_for_selector("#results:not([hidden])")
            assert page.locator("#list .text").inner_text().startswith("gut, ganz gut"), name
            assert "äöü" in page.locator("#list .text").inner_text() or name in ("semicolon.csv", "tab.tsv")
            page.click("#clear")
        (tmp_path / "empty.csv").write_text("only,names\n")
        page.set_input_files("#file", tmp_path / "empty.csv")
        page.wait_for_selector("#problem:not([hidden])")
        assert "holds no rows" in page.locator("#problem").inner_text()


def test_a_dropped_file_is_taken(page: Any, film: Path) -> None:
    with Site(served(film)) as url:
        page.goto(url)
        page.wait_for_selector("#text")
        page.evaluate(
            """() => {
                const data = new DataTransfer();
                data.items.add(new File(["text\\ngood film\\nbad film\\n"], "dropped.csv"));
                const about = { dataTransfer: data, bubbles: true, cancelable: true };
                document.body.dispatchEvent(new DragEvent("drop", about));
            }"""
        )
        page.get_by_text("dropped.csv: 2 rows", exact=True).wait_for()


def test_pairs_have_a_field_each(page: Any, tmp_path: Path, tiny_encoder: Path) -> None:
    folder = save(tmp_path / "pairs", "full", tiny_encoder, pairs=True)
    with Site(served(folder)) as url:
        page.goto(url)
        page.get_by_label("title").fill("good great")
        page.get_by_label("body").fill("lovely film")
        page.click("#go")
        page.wait_for_selector("#list > li")
        assert page.locator("#list .text").inner_text() == "title: good great\nbody: lovely film"


def test_a_model_is_picked(page: Any, film: Path) -> None:
    with Site(served(film, "films"), served(film, "rooms", "7")) as url:
        page.goto(url)
        page.get_by_label("Model", exact=True).select_option("rooms, version 7")
        assert page.locator("#card-title").inner_text() == "rooms"
        page.fill("#text", "good")
        page.click("#go")
        page.wait_for_selector("#list > li")
        assert "rooms, version 7" in page.locator("#results-title").inner_text()


def test_a_token_is_asked_for(page: Any, film: Path) -> None:
    with Site(served(film), token="s3cret") as url:
        page.goto(url)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That token was not accepted").wait_for()
        page.get_by_label("Token").fill("s3cret")
        page.keyboard.press("Enter")
        page.fill("#text", "good")
        page.click("#go")
        page.wait_for_selector("#list > li")


def test_faults_are_said_and_reached(page: Any) -> None:
    with Site(slow_model(Slow()), max_characters=50) as url:
        page.goto(url)
        page.wait_for_selector("#text")
        page.click("#go")
        assert "There is no text yet" in page.locator("#status").inner_text()
        assert page.evaluate("document.activeElement.id") == "text"
        page.fill("#text", "x" * 51)
        page.click("#go")
        page.wait_for_selector("#problem:not([hidden])")
        assert "51 characters; at most 50" in page.locator("#problem").inner_text()
        assert page.evaluate("document.activeElement.id") == "problem"
        page.fill("#text", "short")
        page.click("#go")
        page.wait_for_selector("#list > li")
        assert not page.locator("#problem").is_visible()
    page.click("#go")
    page.wait_for_selector("#problem:not([hidden])")
    assert "cannot be reached" in page.locator("#problem").inner_text()


def test_screen_readers_are_told_what_is_where_and_what_changes(page: Any, film: Path) -> None:
    """Landmarks and headings have their roles and names; what changes is said by regions that are there all along."""
    model = served(film)
    macro_f1 = {"value": 0.9, "low": 0.8, "high": 0.95, "higher_is_better": True}
    model.model.card["metrics"] = {"holdout_intervals": {"macro_f1": macro_f1}}
    with Site(model, max_characters=50) as url:
        page.goto(url)
        page.wait_for_selector("#card table")
        assert page.get_by_role("main").count() == 1
        assert page.get_by_role("banner").count() == 1
        assert page.get_by_role("heading", level=1).all_inner_texts() == ["Try the model"]
        for name in ("Try the model", "films"):
            assert page.get_by_role("region", name=name, exact=True).is_visible()
        assert page.get_by_role("table").get_by_role("columnheader").count() > 0
        status = page.get_by_role("status")
        assert (status.count(), status.get_attribute("aria-live"), status.inner_text()) == (1, "polite", "")
        page.evaluate("window.region = document.querySelector('[role=status]')")
        page.get_by_role("textbox").fill("good film")
        page.get_by_role("button", name="Label", exact=True).click()
        answers = page.get_by_role("region", name="Answers")
        answers.wait_for()
        page.get_by_text("1 text labeled.", exact=True).wait_for()
        assert page.evaluate("region.isConnected && region.textContent") == "1 text labeled."
        assert page.locator("#texts-form").get_attribute("aria-busy") == "false"
        shares = answers.get_by_role("list", name="Probabilities").get_by_role("listitem")
        assert sorted(words.split()[0] for words in shares.all_inner_texts()) == ["negative", "positive"]
        assert page.get_by_role("alert").count() == 0  # hidden, so that nothing is read
        page.get_by_role("textbox").fill("x" * 51)
        page.get_by_role("button", name="Label", exact=True).click()
        alert = page.get_by_role("alert")
        alert.wait_for()
        assert "at most 50" in alert.inner_text()


def test_texts_are_shown_as_text(page: Any, film: Path) -> None:
    text = "<img src=x onerror=alert(1)> & <b>good</b>"
    with Site(served(film)) as url:
        page.goto(url)
        page.fill("#text", text)
        page.click("#go")
        page.wait_for_selector("#list > li")
        assert page.locator("#list .text").inner_text() == text
        assert page.locator("#list img, #list b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360], ids=["desktop", "phone"])
def test_fits_and_reads_well(page: Any, film: Path, scheme: str, width: int) -> None:
    """Nothing sticks out sideways, every control has a name, and text stands out from its ground (WCAG AA, 4.5)."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    with Site(served(film)) as url:
        page.goto(url)
        page.fill("#text", f"{'x' * 300}\ngood film")
        page.click("#go")
        page.wait_for_selector("#list > li")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        unnamed = "e => e.filter(i => i.offsetParent && !i.labels?.length && !i.textContent.trim()).map(i => i.id)"
        assert page.locator("button, input, select, textarea").evaluate_all(unnamed) == []
        if folder := os.environ.get("HEADSTART_SHOTS"):
            page.screenshot(path=Path(folder) / f"{scheme}-{width}.png", full_page=True)
        assert page.evaluate(_CONTRASTS) == []


# Contrast ratio by WCAG 2.2's definition, of every element with text of its own against the nearest ground.
_CONTRASTS = """() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => {
    const straight = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.slice(0, 3).map((v) => straight(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.offsetParent) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 20), ratio]);
  }
  return low;
}"""
