"""The report in a real browser: what is drawn, how it answers to mouse and keyboard, and that nothing leaves it."""

import json

import browser as browsers
import pytest
import report_samples as samples

from penstock.io.dataset.observer import Anomaly
from penstock.transforms.report.report import Report

pytestmark = pytest.mark.integration

# WCAG 2.2 A and AA, and what axe calls best practice.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

# What axe cannot judge while it lies behind something: all is opened, nothing scrolls.
_UNFOLD = """(() => {
  for (const found of document.querySelectorAll("details")) found.open = true;
  for (const found of document.querySelectorAll("details.feature")) draw(found);
  const style = document.createElement("style");
  style.textContent = "* { content-visibility: visible !important } thead th { position: static !important }"
    + ".scroll { overflow: visible !important; max-height: none !important }";
  document.head.append(style);
  return [document.documentElement.scrollWidth, document.documentElement.scrollHeight];
})()"""


def small() -> Report:
    """A report with all that it can show."""
    statistics = samples.statistics_of(samples.small())
    samples.add_dataset(statistics, samples.small(200, 8), "eval")
    anomalies = samples.anomalies_of(month="WARNING", delay="ERROR")
    samples.add_distance(anomalies, "delay", 0.3, 0.1)
    return Report(
        statistics=statistics,
        baseline=samples.statistics_of(samples.small(500, 9, 30.0)),
        schema=samples.schema(),
        anomalies=anomalies,
        manifest=samples.MANIFEST,
        history=samples.history(),
        dead_letters=[samples.letter()],
    )


def hostile() -> Report:
    """A report of hostile names and values."""
    anomalies = samples.anomalies_of()
    for text in samples.HOSTILE:
        samples.add_anomaly(anomalies, text or "blank", "ERROR", text)
    return Report(
        statistics=samples.statistics_of(samples.hostile(), samples.HOSTILE[1]),
        anomalies=anomalies,
        dead_letters=[samples.letter(text, text, detail=text, uri=text) for text in samples.HOSTILE],
        title=samples.HOSTILE[1],
    )


def windowed() -> Report:
    """A report of windows, with findings and with reasons that are hostile."""
    reasons = {text or "blank": place + 1 for place, text in enumerate(samples.HOSTILE[:12])}
    found = (Anomaly("'a.b'", "HISTORY_LEVEL", "error", samples.HOSTILE[0], samples.HOSTILE[2], "train"),)
    windows = [samples.window(minute, reasons if minute % 2 else {}) for minute in range(5)]
    return Report(
        statistics=samples.statistics_of({"a.b": [1.0, 2.0]}),
        windows=[*windows, samples.window(5, {}, status="quarantined"), samples.window(6, reasons, anomalies=found)],
    )


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a report; at the end nothing may have left the page, and nothing may have failed in it."""

    def open_report(report: Report):
        path = tmp_path / "report.html"
        report.write(path)
        browser.open(path)
        browser.evaluate("localStorage.clear()")
        return browser

    browser.emulate()
    yield open_report
    assert browser.requests() == []
    assert browser.complaints() == []


def texts(browser, selector: str) -> list[str]:
    """What elements show, those that are hidden left out."""
    return browser.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.checkVisibility()).map(e => e.textContent)"  # noqa: E501
    )


def names(browser) -> list[str]:
    return texts(browser, "#table tbody th")


def test_sections_of_features_are_drawn_when_one_gets_there(opened):
    page = opened(small())
    page.evaluate("document.getElementById('f3').scrollIntoView({behavior: 'instant'})")
    page.wait_for("document.querySelector('#f3 .parts svg[role=img] path.s0')")
    label = page.evaluate("document.querySelector('#f3 .parts svg').getAttribute('aria-label')")
    assert label.startswith("Histogram of day: train has most values near ")
    page.evaluate("document.querySelector('#f3 .parts details').open = true")
    page.wait_for("document.querySelector('#f3 .parts details table')")
    counts = page.evaluate(
        "[...document.querySelectorAll('#f3 .parts details tbody tr')].map(r => Number(r.cells[1].textContent))"
    )
    assert len(counts) == 28
    assert sum(counts) == pytest.approx(500, abs=2)


def test_a_click_on_a_header_sorts_and_missing_values_come_last(opened):
    page = opened(small())
    page.click("th[data-key=mean] button")
    rising = names(page)
    assert rising == ["gain", "constant", "month", "day", "delay", "distance", "carrier", "empty"]
    assert page.evaluate("document.querySelector('th[data-key=mean]').ariaSort") == "ascending"
    page.click("th[data-key=mean] button")
    assert names(page) == ["distance", "delay", "day", "month", "constant", "gain", "carrier", "empty"]
    assert texts(page, "#found") == ["8 features, sorted by Mean, descending"]
    page.click("th[data-key=n] button")
    assert names(page) == sorted(rising)
    assert page.evaluate("document.querySelectorAll('th[aria-sort=none]').length") == 10


def test_search_type_and_alerts_filter_the_table_and_the_sections(opened):
    page = opened(small())
    page.click("#search")
    page.press(*"DA")
    page.wait_for("document.getElementById('found').textContent === '1 of 8 features'")
    assert names(page) == ["day"]
    assert texts(page, "details.feature h3") == ["day"]
    page.choose("search", "")
    page.click("#alerted")
    assert names(page) == ["delay", "month"]
    page.choose("type", "INT")
    assert names(page) == ["month"]
    assert texts(page, "#found") == ["1 of 8 features"]


def test_the_table_shows_the_numbers_of_another_dataset_and_the_first_ones_again(opened):
    page = opened(small())
    before = page.evaluate("document.querySelector('#table tbody').innerHTML")
    page.choose("dataset", "1")
    assert page.evaluate("document.querySelector('#table tbody').innerHTML") != before
    assert texts(page, "#shown") == ["eval"]
    page.choose("dataset", "0")
    assert page.evaluate("document.querySelector('#table tbody').innerHTML") == before, "script and template agree"


def test_numbers_are_written_by_the_script_as_by_python(opened):
    from penstock.transforms.report.text import number, share

    page = opened(small())
    values = [
        0,
        1,
        -1,
        0.1 + 0.2,
        1234.5678,
        12345678,
        1e14,
        1e15,
        -2.5e-5,
        1e-4,
        9.9996,
        0.00099996,
        1e300,
        5e-324,
        1 / 3,
    ]
    assert page.evaluate(f"{json.dumps(values)}.map(number)") == [number(value) for value in values]
    parts = [0, 1e-9, 0.001, 0.3333, 0.99951, 1]
    assert page.evaluate(f"{json.dumps(parts)}.map(p => share(p, 1))") == [share(part, 1) for part in parts]
    assert page.evaluate("['NaN', 'Infinity', '-Infinity', null].map(number)") == ["NaN", "∞", "-∞", "–"]


def test_counts_become_logarithmic(opened):
    page = opened(small())
    page.evaluate("draw(document.getElementById('f4'))")
    path = "document.querySelector('#f4 .parts path.s0').getAttribute('d')"
    before = page.evaluate(path)
    page.click("#log")
    assert page.evaluate(path) != before
    assert "logarithmic" in page.evaluate("document.querySelector('#f4 .parts svg').getAttribute('aria-label')")
    page.click("#log")
    assert page.evaluate(path) == before


def test_the_theme_follows_the_system_until_one_is_chosen(opened):
    page = opened(small())
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate(prefers_color_scheme="light")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.emulate(prefers_color_scheme="dark")
    assert page.evaluate(ground) == "rgb(20, 23, 26)"
    page.click("#theme")
    assert (texts(page, "#theme"), page.evaluate(ground)) == (["Theme: light"], "rgb(255, 255, 255)")
    page.emulate(prefers_color_scheme="light")
    page.click("#theme")
    assert page.evaluate(ground) == "rgb(20, 23, 26)"
    page.reload()
    page.click("#theme")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


def test_all_is_reached_and_used_with_the_keyboard_and_focus_is_seen(opened):
    page = opened(small())
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.evaluate("document.getElementById('search').focus()")
    seen = []
    for _ in range(16):
        page.press("Tab")
        seen.append(page.evaluate("document.activeElement.closest('th')?.dataset.key ?? document.activeElement.id"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"focus on {seen[-1]} cannot be seen"
    assert {"type", "alerted", "dataset", "n", "t", "mean"} & set(seen) >= {"type", "alerted", "dataset", "n", "t"}
    page.evaluate("document.querySelector('th[data-key=n] button').focus()")
    page.press("Enter")
    assert page.evaluate("document.querySelector('th[data-key=n]').ariaSort") == "ascending"
    page.press("Space")
    assert page.evaluate("document.querySelector('th[data-key=n]').ariaSort") == "descending"
    page.evaluate("document.querySelector('#f1 summary').focus()")
    assert page.evaluate("document.getElementById('f1').open")
    page.press("Enter")
    assert not page.evaluate("document.getElementById('f1').open")


def test_a_link_to_a_feature_opens_its_section_and_moves_the_focus(opened):
    page = opened(small())
    page.evaluate("document.getElementById('close').click()")
    page.click("#table tbody tr:nth-child(3) th a")
    page.wait_for("document.querySelector('#f2[open] .parts')")
    assert page.evaluate("document.activeElement === document.querySelector('#f2 summary')")
    assert page.evaluate("location.hash") == "#f2"
    page.wait_for("Math.abs(document.getElementById('f2').getBoundingClientRect().top) < 100")
    page.evaluate("history.back()")
    page.wait_for("location.hash === ''")


def test_the_address_of_a_feature_opens_its_section(opened, browser):
    page = opened(small())
    page.open(page.evaluate("location.href") + "#f5")
    assert page.evaluate("document.querySelector('#f5 .parts .ranks') !== null")


def test_nothing_moves_by_itself_for_those_who_do_not_want_it(opened):
    page = opened(small())
    page.emulate(prefers_reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    page.emulate(prefers_reduced_motion="no-preference")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "smooth"


def test_print_shows_what_is_open_without_what_paper_cannot_do(opened):
    page = opened(small())
    page.evaluate("document.getElementById('close').click(); document.getElementById('f0').open = true; 0")
    page.emulate(media="print", prefers_color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert texts(page, "details.feature h3") == ["delay"]
    assert page.evaluate("document.querySelector('#f0 .parts') !== null")
    assert texts(page, "nav, form, button") == [text for text in texts(page, "th button")], (
        "buttons in headers are their texts"
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.call("Page.printToPDF")["data"]


def test_hostile_names_and_values_stay_text(opened):
    page = opened(hostile())
    page.evaluate("openAll(true); for (const section of document.querySelectorAll('details.feature')) draw(section); 0")
    for step in ("sort('n', document.querySelector('th[data-key=n]'))", "filter()", "fill()", "redraw()"):
        page.evaluate(f"{step}; 0")
    page.evaluate("document.querySelectorAll('*').forEach(e => e.dispatchEvent(new MouseEvent('mouseover'))); 0")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.querySelectorAll('main script, img, iframe, object, embed, link').length") == 0
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length"  # noqa: E501
        )
        == 0
    )
    shown = page.evaluate("document.body.innerText")
    assert "<img src=x onerror=window.hit=1>" in shown
    assert "⟨U+202E⟩evil⟨U+202C⟩" in shown
    assert "\u202e" not in shown


def test_windows_have_rows_and_lines_and_stay_text(opened):
    page = opened(windowed())
    assert page.evaluate("window.hit") is None
    rows = texts(page, "tr")
    assert len([text for text in rows if "too many rejects" in text]) == 1
    shown = page.evaluate("document.body.innerText")
    assert "rejected for <script>window.hit=1</script>" in shown
    assert "<img src=x onerror=window.hit=1>" in shown


def test_the_policy_stops_what_might_slip_through(browser, tmp_path):
    """As a bug of ours would have it: markup of the data in the page. It must neither run nor ask for anything."""
    slipped = '<img src="http://127.0.0.1:9/x.png" onerror="window.hit=1"><script>window.hit=1</script>'
    slipped += (
        '<link rel="stylesheet" href="http://127.0.0.1:9/x.css"><form action="http://127.0.0.1:9/"><button id="go">x'
    )
    text = small().to_html().replace('<main id="main"', f'{slipped}</button></form><main id="main"')
    (tmp_path / "slipped.html").write_text(text)
    browser.open(tmp_path / "slipped.html")
    assert browser.evaluate("document.querySelector('img') !== null")
    browser.click("#go")
    browser.evaluate("new Promise(resolve => setTimeout(resolve, 300))")
    with pytest.raises(browsers.PageError, match="TrustedHTML"):
        browser.evaluate("document.body.innerHTML = '<b>x</b>'")
    assert browser.evaluate("window.hit") is None
    assert all("Content Security Policy" in said or "TrustedHTML" in said for said in browser.complaints())
    blocked = {event["params"]["requestId"] for event in browser.events if event["method"] == "Network.loadingFailed"}
    sent = [
        e
        for e in browser.events
        if e["method"] == "Network.requestWillBeSent" and "127.0.0.1" in e["params"]["request"]["url"]
    ]
    assert {event["params"]["requestId"] for event in sent} <= blocked
    assert not [e for e in browser.events if e["method"] == "Network.requestWillBeSentExtraInfo"]


def test_2000_columns_load_sort_and_filter_fluently(opened):
    page = opened(Report(statistics=samples.statistics_of(samples.wide(2000)), schema=samples.schema()))
    load = page.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
    assert load < 30_000, "2 seconds on a quiet machine"
    timed = "(() => { const t = performance.now(); %s; document.body.offsetHeight; return performance.now() - t; })()"
    assert page.evaluate(timed % "document.querySelector('th[data-key=mean] button').click()") < 5_000
    search = "document.getElementById('search').value = '12'; filter()"
    assert page.evaluate(timed % search) < 5_000
    assert texts(page, "#found") == ["139 of 2,000 features"]
    assert page.evaluate("document.querySelectorAll('.parts').length") == 0, "nothing is drawn before it is needed"


def test_rows_beyond_the_first_200_are_shown_when_one_gets_there(opened):
    page = opened(Report(statistics=samples.statistics_of(samples.wide(500, rows=20))))
    assert len(names(page)) == 200
    assert texts(page, "#more") == ["Show 200 more of 300 rows"]
    page.evaluate("document.getElementById('features').scrollIntoView({behavior: 'instant'})")
    page.evaluate("(() => { const box = document.querySelector('.tall'); box.scrollTop = box.scrollHeight; })()")
    page.wait_for("document.querySelectorAll('#table tbody tr:not([hidden])').length === 400")
    page.click("#more")
    assert len(names(page)) == 500
    assert texts(page, "#more") == []


@pytest.mark.parametrize(
    ("report", "scheme"),
    [
        pytest.param(small, "light", id="small-light"),
        pytest.param(small, "dark", id="small-dark"),
        pytest.param(hostile, "dark", id="hostile-dark"),
        pytest.param(windowed, "light", id="windowed-light"),
        pytest.param(hostile, "light", marks=pytest.mark.soak, id="hostile-light"),
        pytest.param(windowed, "dark", marks=pytest.mark.soak, id="windowed-dark"),
    ],
)
def test_axe_finds_no_violation(opened, axe, report, scheme):
    page = opened(report())
    page.emulate(prefers_color_scheme=scheme)
    page.call("Page.setBypassCSP", enabled=True)
    page.open(page.evaluate("location.href"))
    try:
        width, height = page.evaluate(_UNFOLD)
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width + 50,
            height=height + 100,
            deviceScaleFactor=1,
            mobile=False,
        )
        page.call("Runtime.evaluate", expression=axe)
        rules = json.dumps({"runOnly": {"type": "tag", "values": _RULES}, "resultTypes": ["violations"]})
        violations = page.evaluate(
            f"axe.run(document, {rules}).then(r => [r.passes.length, r.violations.map(v => [v.id, v.help, v.nodes[0].html])])"  # noqa: E501
        )
    finally:
        page.call("Page.setBypassCSP", enabled=False)
        page.call("Emulation.clearDeviceMetricsOverride")
    assert violations[0] > 30
    assert violations[1] == []


def test_a_frame_of_a_notebook_works_without_an_origin(browser, tmp_path):
    path = tmp_path / "notebook.html"
    path.write_text(f"<!DOCTYPE html><title>n</title><p>cell</p>{small()._repr_html_()}")
    browser.open(path)
    browser.evaluate("new Promise(resolve => setTimeout(resolve, 500))")
    assert browser.requests() == []
    assert browser.complaints() == []
    assert frame_text(browser, "document.getElementById('found').textContent") == "8 features"
    frame_text(browser, "document.querySelector('#table tbody a').click(); ''")
    assert frame_text(browser, "String(document.querySelector('#f0 .parts') !== null)") == "true"
    assert browser.evaluate("location.href") == path.resolve().as_uri()


def frame_text(browser, script: str) -> str:
    """A text from the frame of a page: a frame without an origin can be asked only from within."""
    tree = browser.call("Page.getFrameTree")["frameTree"]
    frame = tree["childFrames"][0]["frame"]["id"]
    world = browser.call("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
    return browser.call("Runtime.evaluate", expression=script, contextId=world)["result"]["value"]
