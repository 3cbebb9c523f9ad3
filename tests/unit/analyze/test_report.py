# ruff: noqa: E501
from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from droptape.analyze import Recording, open_recording
from droptape.analyze.report import cube as cube_module
from droptape.analyze.report.cube import cube
from droptape.analyze.report.page import MAX_BYTES
from unit.analyze.browser import Browser, chromium
from unit.analyze.incident import CLIENT, OVERFLOW, SERVER, explain, make_incident
from unit.analyze.make import Maker

HOSTILE = "<img src=x>"  # 15 bytes at most
EVIL = "\"'><script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(rec: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rec.report(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    maker = Maker(folder / "rec", host=EVIL)
    row = {**CLIENT, **SERVER, **OVERFLOW, "at": 5, "owner_comm": HOSTILE, "ifname": "</script>"}
    maker.seal("drops", [row, {**row, "at": 7}, {**row, "owner_comm": "\x1b[31m\u202e", "at": 6}])
    listener = {"at": 1, "lport": 80, "laddr": "10.0.0.2", "owner_comm": HOSTILE, "backlog": 4,
                "accept_queue": 5, "open": 1, "netns": 1}  # fmt: skip
    maker.seal("listeners", [listener, {**listener, "at": 30, "accept_queue": 0}])
    maker.symbols()
    maker.dictionary("netns", [{"inum": 4026531840, "name": EVIL, "pid": 1}])
    maker.dictionary("cgroups", [{"id": 42, "path": EVIL, "container": EVIL}])
    maker.dictionary("sysctls", [{"ts": 1, "netns": 1, "name": "net.core.x", "value": EVIL}])
    path = maker.finish(notes=[EVIL], ended_by=EVIL)
    with open_recording(path) as rec:
        return rec.report(folder / "report.html")


def embedded(page: Path) -> dict[str, Any]:
    """The data of a page."""
    text = page.read_text()
    start = text.index('<script type="application/json" id="data">')
    raw = text[text.index(">", start) + 1 : text.index("</script>", start)]
    found: dict[str, Any] = json.loads(raw)
    return found


def counted(data: dict[str, Any], dimension: str) -> dict[Any, int]:
    index = data["cube"]["dimensions"].index(dimension)
    sums: dict[Any, int] = {}
    for group in data["cube"]["groups"]:
        sums[group["d"][index]] = sums.get(group["d"][index], 0) + sum(group["n"])
    return sums


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(page: Path) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(page.read_text())
    return parser.tags


def test_the_data_is_what_a_query_gives(page: Path, rec: Recording) -> None:
    data = embedded(page)
    for column, dimension in (("kind", "kind"), ("cause", "cause"), ("owner_comm", "process"),
                              ("port", "port"), ("function", "function"), ("ifname", "device")):  # fmt: skip
        rows = rec.sql(f"SELECT {column}, sum(amount) FROM events WHERE NOT benign GROUP BY 1")
        assert counted(data, dimension) == dict(rows.fetchall())


def test_every_event_is_in_its_bucket(rec: Recording) -> None:
    found = cube(rec)
    expected: dict[int, int] = {}
    for ns, amount in rec.sql(
        "SELECT epoch_ns(ts), amount FROM events WHERE NOT benign"
    ).fetchall():
        bucket = (ns - found.origin_ns) // found.width_ns
        expected[bucket] = expected.get(bucket, 0) + amount
    got: dict[int, int] = {}
    for group in found.groups:
        for bucket, events in group.buckets:
            got[bucket] = got.get(bucket, 0) + events
    assert got == expected
    assert max(got) < found.count


def test_what_does_not_fit_is_put_together_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cube_module, "MAX_GROUPS", 2)
    monkeypatch.setattr(cube_module, "MAX_REST", 2)
    with open_recording(make_incident(tmp_path / "rec")) as rec:
        found = cube(rec)
        text = rec.report(tmp_path / "r.html").read_text()
    assert found.shown == 2
    assert found.found == 7
    assert sum(e for g in found.groups for _, e in g.buckets) == found.total == 22
    assert found.together == sum(e for g in found.groups[2:] for _, e in g.buckets) > 0
    assert f"The others, {found.together} of 22 events" in text


def test_a_page_stays_small(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "many")
    rows = [
        {**CLIENT, **SERVER, "at": i % 60 + i / 1e6, "reason": "NO_SOCKET", "location": 0x1200,
         "sport": 40000, "dport": 1 + i % 9000, "owner_comm": f"worker-{i % 4000}",
         "owner_pid": 1 + i % 5000}
        for i in range(20_000)
    ]  # fmt: skip
    maker.seal("drops", rows)
    listeners = [
        {"at": i % 60, "lport": 1 + i % 3000, "laddr": "10.0.0.2", "netns": i, "open": 1}
        for i in range(6000)
    ]
    maker.seal("listeners", listeners)
    settings: list[Mapping[str, Any]] = [
        {"ts": 1, "netns": i, "name": f"net.{i}", "value": "x" * 4000} for i in range(2000)
    ]
    maker.dictionary("sysctls", settings)
    explain(maker)
    with open_recording(maker.finish()) as rec:
        page = rec.report(tmp_path / "r.html")
    assert page.stat().st_size < MAX_BYTES
    assert sum(counted(embedded(page), "kind").values()) == 20_000
    assert "the first 600 of 2,000" in page.read_text()


def test_the_page_asks_for_nothing(page: Path) -> None:
    for tag, attributes in tags(page):
        assert tag not in ("link", "iframe", "img", "object", "embed", "base")
        assert not {"src", "href", "style", "onclick"} & set(attributes) or tag == "a", attributes
    (policy,) = (
        attributes["content"]
        for tag, attributes in tags(page)
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_names_cannot_become_markup(hostile: Path) -> None:
    text = hostile.read_text()
    assert HOSTILE not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "\x1b" not in text
    assert [tag for tag, _ in tags(hostile)].count("script") == 3
    assert not any(tag == "img" for tag, _ in tags(hostile))


def test_every_query_on_the_page_runs(page: Path, rec: Recording) -> None:
    queries = embedded(page)["queries"]
    assert {"overview", "causes", "who", "queues", "functions", "losses", "sysctls"} < set(queries)
    for name, sql in queries.items():
        table = {"queues": "listeners", "sysctls": "sysctls"}.get(name)
        if table is None or table in rec.views:
            rec.sql(sql).fetchall()
    overview = rec.sql(queries["overview"]).fetchall()
    assert sum(row[-1] for row in overview) == sum(counted(embedded(page), "kind").values())


def test_an_empty_recording_has_a_page(tmp_path: Path) -> None:
    with open_recording(Maker(tmp_path / "empty").finish()) as rec:
        text = rec.report(tmp_path / "r.html").read_text()
    assert "Nothing was dropped, retransmitted, refused or reset" in text


def test_losses_are_on_the_page(page: Path) -> None:
    assert "Not recorded: 6 drops (ring full)." in page.read_text()


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        if os.environ.get("DROPTAPE_REQUIRE_BROWSER") == "1":
            pytest.fail("the page's tests are required here, but there is no Chromium")
        pytest.skip("there is no Chromium")
    with Browser(program) as found:
        yield found


def rects(browser: Browser, picture: str) -> int:
    return int(browser.evaluate(f"document.querySelectorAll('#{picture} .mark-rect path').length"))


def shown(browser: Browser) -> str:
    return str(browser.evaluate("document.getElementById('matching').value"))


def scrolled(picture: str) -> str:
    how = "{block: 'center', behavior: 'instant'}"
    return f"document.getElementById('{picture}').scrollIntoView({how})"


def place(selector: str) -> str:
    return (
        f"(() => {{ const r = document.querySelector('{selector}').getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]; })()"
    )


def choose(browser: Browser, field: str, value: str) -> None:
    browser.evaluate(
        f"(() => {{ const f = document.getElementById('{field}'); f.value = {json.dumps(value)};"
        "f.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_renders(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.messages == []
    assert browser.requests == [page.as_uri()]
    for picture in ("overview", "causes", "ranking"):
        assert rects(browser, picture) > 0, picture
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
    drawn = browser.evaluate(
        "document.querySelector('#causes .mark-rect path').getAttribute('fill')"
    )
    light = {"#d55e00", "#0072b2", "#b57f00"}
    assert (drawn in light) is not dark


def test_text_can_be_read(browser: Browser, page: Path) -> None:
    """Contrast of the colours in use, after WCAG: 4.5 for text."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for dark in (False, True):
        browser.open(page, dark=dark)
        names = ("paper", "raised", "ink", "soft", "link", "good", "warn", "bad")
        color = {
            name: browser.evaluate(
                f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()"
            )
            for name in names
        }
        for ground in ("paper", "raised"):
            for name in names[2:]:
                high, low = sorted((luminance(color[name]), luminance(color[ground])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (dark, ground, name)


def test_the_fields_filter_pictures_and_table(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert shown(browser).startswith("22 of 22 events")
    before = rects(browser, "ranking")
    choose(browser, "from", "15")
    browser.wait("document.getElementById('matching').value.startsWith('3 of')")
    browser.wait(f"document.querySelectorAll('#ranking .mark-rect path').length < {before}")
    assert "auction-server" not in browser.evaluate(
        "document.querySelector('#who tbody').textContent"
    )
    assert browser.evaluate("document.querySelectorAll('#who tbody tr').length") == 3
    browser.evaluate("document.querySelector('#filters [type=reset]').click()")
    browser.wait("document.getElementById('matching').value.startsWith('22 of')")


def test_a_cause_and_a_process_filter(browser: Browser, page: Path) -> None:
    browser.open(page)
    choose(browser, "cause", "retransmits: FAST")
    browser.wait("document.getElementById('matching').value.startsWith('4 of 22')")
    browser.wait("document.querySelectorAll('#causes .mark-rect path').length === 1")
    choose(browser, "cause", "")
    choose(browser, "process", "auction-server")
    browser.wait("document.getElementById('matching').value.startsWith('19 of 22')")


def test_a_brush_filters(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate(scrolled("overview"))
    x, y, width, height = browser.evaluate(place("#overview .background"))
    # 60 s are shown: from 3 s to 9 s.
    browser.drag((x + width * 0.05, y + height / 2), (x + width * 0.15, y + height / 2))
    browser.wait("document.getElementById('matching').value.startsWith('14 of 22')")
    assert 2.5 < browser.evaluate("document.getElementById('from').valueAsNumber") < 3.5
    assert 8.5 < browser.evaluate("document.getElementById('to').valueAsNumber") < 9.5
    labels = (
        "[...document.querySelectorAll('#causes .role-axis-label text')].map(t => t.textContent)"
    )
    # The recording began at 22:13:20.
    browser.wait(f"{labels}.every(t => !/^22/.test(t) || t >= '22:13:22' && t <= '22:13:30')")


def test_the_dimension_can_be_chosen(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("document.querySelector('#dimensions [value=port]').click()")
    labels = (
        "[...document.querySelectorAll('#ranking .role-axis-label text')].map(t => t.textContent)"
    )
    browser.wait(f"{labels}.includes('8080')")
    assert "AS port" in browser.evaluate("document.getElementById('query-ranking').textContent")


def test_the_keyboard_is_enough(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    browser.press("Enter")
    browser.wait("location.hash === '#findings'")
    reached = set()
    for _ in range(200):
        browser.press("Tab")
        reached.add(
            browser.evaluate("document.activeElement.id || document.activeElement.className")
        )
        outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", browser.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        if "sort" in reached:
            break
    assert {"from", "to", "cause", "process", "sort"} <= reached
    browser.press("Enter")
    assert (
        browser.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')")
        == "descending"
    )
    names = "[...document.querySelectorAll('#who tbody tr')].map(r => r.cells[0].textContent)"
    assert browser.evaluate(names) == sorted(browser.evaluate(names), reverse=True)


def test_names_in_pictures_and_tooltips_are_text(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    assert browser.messages == []
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    labels = browser.evaluate("document.getElementById('ranking').textContent")
    assert HOSTILE in labels
    assert HOSTILE in browser.evaluate("document.getElementById('queues').textContent")
    browser.evaluate(scrolled("ranking"))
    x, y, width, height = browser.evaluate(place("#ranking .mark-rect path"))
    x, y = x + width / 2, y + height / 2
    browser.drag((x, y), (x + 1, y))
    browser.wait("document.querySelector('#vg-tooltip-element.visible')")
    assert browser.evaluate("document.querySelectorAll('#vg-tooltip-element img').length") == 0
    assert HOSTILE in browser.evaluate("document.getElementById('vg-tooltip-element').textContent")
    assert browser.requests == [hostile.as_uri()]


def test_the_queues_are_drawn(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    assert browser.evaluate("document.querySelectorAll('#queues .mark-line path').length") > 0
    assert re.search(
        r"10\.0\.0\.2:80", browser.evaluate("document.getElementById('listeners').textContent")
    )
