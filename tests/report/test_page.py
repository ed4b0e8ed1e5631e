"""The page as a real browser shows it, and as its text stands."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import networkx as nx
import pytest
from synthetic_run import OPTIONS, chain, write_run

from lightning_nas.errors import InputError
from lightning_nas.report.choices import Choices
from lightning_nas.report.page import write_report
from lightning_nas.spaces.cell_graphs import cell_graph

LAYERS = tuple(f"layer_{i:02}" for i in range(1, 23))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEADINGS = [
    "Result", "Derived network", "Code names", "Score and cost", "Best architectures seen", "What to do next", "Search",
    "Choice probabilities", "Search health", "Rank check", "Latency by layer", "Retraining", "Configuration",
]  # fmt: skip
HOSTILE = ("<script>alert(1)</script>", '"><img/src=x/onerror=alert(1)>', r"$\frac{$", "</svg></pre>]]>&amp;", "skip")

DEVICES = ("latency_device", "latency_predicted_device")


class Page(HTMLParser):
    """Elements with their attributes, and an error where a tag is not closed in its place."""

    EMPTY = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.words.append((self.open[-1], data))

    def text(self, tag: str) -> list[str]:
        return [words for inside, words in self.words if inside == tag]


def browsed(path: Path, profile: Path, *more: str) -> tuple[Page, str]:
    """The document after the browser has read it, and the messages on its console."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--enable-logging=stderr"]  # fmt: skip
    command = [CHROMIUM, *flags, *more, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return Page(done.stdout), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the paper's size: 22 layers of 9 options, 90 epochs."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, choices=22, epochs=90)
    return write_report(folder, chain(["k3_e6"] * 22), choices=Choices({"layers": LAYERS}, {"layers": ((0,),) * 22}))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every text tries to be HTML."""
    folder = tmp_path_factory.mktemp("hostile")
    write_run(folder, options=HOSTILE, choices=5, epochs=3)
    for path in folder.rglob("*.csv"):
        path.write_text(
            re.sub(r"\b(layers|sampled|derived|layer_00|train/loss|0{12}\w{4})\b", HOSTILE[0], path.read_text())
        )
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(dict.fromkeys(result, HOSTILE[1]) | {"search_space": HOSTILE[0]}))
    (folder / "config.yaml").write_text(HOSTILE[3] + HOSTILE[0])
    (folder / "latency_table.json").write_text(json.dumps({"unit": HOSTILE[2] + HOSTILE[0]}))
    return write_report(folder, chain(HOSTILE))


def test_a_browser_shows_every_part_without_complaint(written: Path, tmp_path: Path) -> None:
    page, console = browsed(written, tmp_path)
    assert page.text("h1") == ["fbnet on digits"]
    assert page.text("h2") == HEADINGS
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == 12
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)
    assert console == ""


def test_a_browser_reports_a_page_that_asks_for_something(tmp_path: Path) -> None:
    page = write_report(tmp_path, None)
    page.write_text(page.read_text().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">'))
    _, console = browsed(page, tmp_path / "profile")
    assert "violates the following Content Security Policy" in console


def test_hostile_text_stays_text_in_a_browser(hostile: Path, tmp_path: Path) -> None:
    page, console = browsed(hostile, tmp_path)
    assert page.text("h2") == [heading.replace("Latency", "Cost") for heading in HEADINGS]  # an unknown unit
    assert not {tag for tag, _ in page.elements} & {"script", "img", "iframe", "object"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert console == ""


def test_health_curves_have_their_ends_in_words(written: Path) -> None:
    section = written.read_text().partition(">Search health<")[2].partition("</section>")[0]
    assert "entropy from 1.2 to " in section
    assert "discretisation_gap from 0.3 to " in section
    assert "eigenvalue from " in section


def test_health_shows_the_probability_of_each_choice(written: Path) -> None:
    section = written.read_text().partition(">Search health<")[2].partition("</section>")[0]
    assert section.count("<svg") == 2
    assert "layer_01: k3_e1 1.00; layer_02: k5_e1_g2 " in section


def test_each_cell_is_drawn_and_described_in_words(tmp_path: Path) -> None:
    states = {"c_{k-1}": "c_{k-1}", "0": HOSTILE[0], "c_{k}": "c_{k}"}
    cell = cell_graph(states, [("c_{k-1}", "0", HOSTILE[4]), ("0", "c_{k}", "")])
    path = write_report(tmp_path, chain(["k3"]), {"normal cell": cell, HOSTILE[1]: cell})
    pictures = [attributes for tag, attributes in Page(path.read_text()).elements if tag == "svg"]
    assert [picture["aria-label"] for picture in pictures[1:]] == [
        f"The {name}: 0 = skip(c_{{k-1}}); c_{{k}} = 0" for name in ("normal cell", HOSTILE[1])
    ]
    assert Page(path.read_text()).text("text").count("c_{k-1}") == 2


def test_the_rank_check_stands_beside_what_macs_alone_reach(written: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", " ", written.read_text()))
    assert re.search(r"Kendall's tau of MACs alone\s+0\.410", text)
    assert re.search(r"Spearman's rho of MACs alone\s+0\.520", text)
    assert re.search(r"By chance\s+0\.4% of random orders are as far from 0", text)
    assert re.search(r"What it can say\s+too few to say", text)


def test_scores_without_training_stand_beside_the_search(written: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", " ", written.read_text()))
    assert re.search(r"the search\s+0\.680\s+0\.580\s+0\.28 to 0\.83\s+67%\s+0\.4%", text)
    assert re.search(r"synflow\s+0\.520\s+0\.410\s+0\.10 to 0\.70\s+33%\s+2\.0%", text)
    assert re.search(r"swap\s+–\s+–\s+–\s+0%\s+–", text)
    assert "Found of the true top 3" in text


def test_the_page_refers_to_nothing_outside_itself(written: Path, hostile: Path) -> None:
    for path in (written, hostile):
        page = Page(path.read_text())
        named = [
            a[key] for _, a in page.elements for key in ("src", "href", "xlink:href", "srcset", "action") if key in a
        ]
        assert named
        assert all(target and target.startswith(("#", "data:image/png;base64,")) for target in named)
        assert not re.search(r"url\((?!#)|@import", path.read_text())
        policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_ids_are_unique_and_references_are_found(written: Path) -> None:
    page = Page(written.read_text())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["xlink:href"] or "" for _, a in page.elements if "xlink:href" in a]
    used = {link[1:] for link in links if link.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", written.read_text())
    )
    assert used <= set(ids)


def test_hostile_text_can_be_read_on_the_page(hostile: Path) -> None:
    page = Page(hostile.read_text())
    assert page.text("pre")[-1] == HOSTILE[3] + HOSTILE[0]
    assert f"{HOSTILE[1]} on {HOSTILE[1]}" in page.text("h1")
    assert f"search space {HOSTILE[0]}" in page.text("p")[0]
    for option in HOSTILE:
        assert any(option[:20] in words for words in page.text("text")), option


def test_a_run_of_the_papers_size_stays_small(written: Path) -> None:
    assert written.stat().st_size < 600_000


def test_figures_of_the_result_are_shown(written: Path) -> None:
    page = Page(written.read_text())
    cells = " ".join(page.text("td"))
    for words in ("98.33%", "104,522", "2,345,678", "1.234 ms (-6% against measured)", "1.311 ms", "41.2 s", "12.9 s"):
        assert words in cells
    assert "0.580 (95% interval 0.28 to 0.83, n = 12, 0.4% by chance; MACs alone 0.410): too few to say" in cells
    assert "98.33% test accuracy" in page.text("p")[0]


def test_figures_that_were_not_measured_have_no_row(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"strategy": "fbnet", "params": None, "test_ppl": 5.5}))
    page = Page(write_report(tmp_path, None).read_text())
    assert page.text("th") == ["Test perplexity"]
    assert page.text("td") == ["5.50"]


def test_accuracy_has_its_interval_and_latency_its_device(tmp_path: Path) -> None:
    found = {"test_acc": 0.9833, "test_samples": 359, "latency_measured_ms": 1.3, "latency_predicted_ms": 1.0}
    more = {"latency_iqr_ms": 0.02, "latency_steady": False, "latency_table_check": "steady: entries vary by 2 %"}
    (tmp_path / "result.json").write_text(json.dumps(found | more | dict.fromkeys(DEVICES, "Xeon, 1 thread")))
    page = Page(write_report(tmp_path, None).read_text())
    assert page.text("td") == [
        "98.33% (95% interval 96.4% to 99.2%, n = 359)",
        "1.000 ms (-23% against measured) on Xeon, 1 thread",
        "1.300 ms, IQR 0.020, not steady on Xeon, 1 thread",
        "steady: entries vary by 2 %",
    ]
    assert "1.3 ms measured, not steady on Xeon, 1 thread" in page.text("p")[0]


@pytest.mark.parametrize("known", [{"latency_predicted_device": "Google Pixel 1"}, {}])
def test_latencies_of_different_devices_are_not_compared(tmp_path: Path, known: dict[str, str]) -> None:
    figures = {"latency_measured_ms": 0.38, "latency_predicted_ms": 6.0, "latency_device": "Xeon, 1 thread"}
    (tmp_path / "result.json").write_text(json.dumps(figures | known))
    table = {"unit": "ms", "device": "Google Pixel 1", "conditions": None}
    (tmp_path / "latency_table.json").write_text(json.dumps(table))
    cells = Page(write_report(tmp_path, None).read_text()).text("td")
    assert cells == ["6.000 ms on Google Pixel 1", "0.380 ms on Xeon, 1 thread"]


def test_the_ten_best_architectures_stand_once_each_in_order(tmp_path: Path) -> None:
    rows = [f"0,{i},sampled,key{i % 12},{score},,k3 k5" for i, score in enumerate(range(24))]
    (tmp_path / "architectures.csv").write_text("\n".join(["epoch,step,kind,key,score,cost,choices", *rows]))
    page = Page(write_report(tmp_path, None).read_text())
    keys = [words for words in page.text("code") if words.startswith("key")]
    assert keys == [f"key{i}" for i in range(11, 1, -1)]
    assert "23.0000" in page.text("td")
    assert "The answer was not scored." in page.text("p")[1]


def test_an_answer_that_is_not_the_best_score_says_why(tmp_path: Path) -> None:
    write_run(tmp_path, choices=2, epochs=3)
    answer = json.loads((tmp_path / "architecture.json").read_text())
    chosen = " ".join(answer["choices"].values())
    rows = ["11,9,derived,key1,0.74,1.0,a b", f"12,9,candidate,key2,0.52,2.0,{chosen}"]
    (tmp_path / "architectures.csv").write_text("\n".join(["epoch,step,kind,key,score,cost,choices", *rows]))
    known = {"answer_rule": "the best of 10 samples", "warnings": ["a tie"]}
    steps = {"weights": 168, "architecture": 160, "trials": None}
    result = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(result | known | {"steps": steps}))
    page = Page(write_report(tmp_path, None).read_text())
    assert "Warning: a tie." in page.text("p")
    assert {"the best of 10 samples", "168 of the weights, 160 of the architecture"} <= {*page.text("td")}
    [words] = [words for words in page.text("p") if "highest scores" in words]
    assert "The answer is number 2. It is chosen by this rule: the best of 10 samples. Scores of different" in words
    assert page.text("mark") == ["answer", "answer"]  # of the result and of the list
    assert [attributes for tag, attributes in page.elements if tag == "tr"].count({"class": "answer"}) == 1


def test_an_empty_folder_gives_one_line_of_what_is_missing(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, None).read_text())
    assert page.text("h2") == []
    assert "svg" not in {tag for tag, _ in page.elements}
    assert page.text("p")[-1] == (
        "Not recorded: result, derived network, score and cost, best architectures seen, search, choice probabilities, "
        "search health, rank check, latency by layer, retraining, configuration."
    )


def test_every_section_on_the_page_has_content(written: Path) -> None:
    for section in written.read_text().split("<h2>")[1:]:
        assert re.search("<(svg|table|pre|details)", section)
    assert "Not recorded" not in written.read_text()


def test_a_layer_has_one_name_in_every_picture(written: Path) -> None:
    text = written.read_text()
    for heading in ("Choice probabilities", "Search health", "Latency by layer"):
        section = text.partition(f">{heading}<")[2].partition("</section>")[0]
        words = " ".join(Page(f"<div>{section}</div>".replace("</h2>", "", 1)).text("text"))
        assert "layer_02" in words, heading
        assert not re.search(r"choice \d|layers \d", words), heading


def test_every_code_name_of_the_page_is_explained_once(written: Path) -> None:
    section = written.read_text().partition(">Code names<")[2].partition("</section>")[0]
    assert re.findall(r"<code>([^<]*)", section) == sorted(OPTIONS)
    assert "5x5 kernel, expansion 6" in section


def test_nothing_is_wider_than_a_screen_of_400_px(written: Path, tmp_path: Path) -> None:
    measure = (
        "const page = document.querySelector('iframe').contentDocument;"
        "document.title = page.documentElement.scrollWidth + ' ' + page.documentElement.clientWidth"
    )
    frame = f'<iframe src="{written.as_uri()}" width="400" height="900" frameborder="0"></iframe>'
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(f'<!DOCTYPE html><title></title><body onload="{measure}">{frame}</body>')
    page, _ = browsed(wrapper, tmp_path / "profile", "--allow-file-access-from-files")
    width, visible = map(int, page.text("title")[0].split())
    assert 300 < width <= visible <= 400


@pytest.mark.parametrize(
    "name",
    [
        "metrics.csv",
        "probabilities.csv",
        "rank_points.csv",
        "rank_proxies.csv",
        "architectures.csv",
        "health.csv",
        "edges.csv",
    ],
)
def test_files_with_only_a_header_count_as_absent(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, choices=2, epochs=2)
    header = (tmp_path / name).read_text().splitlines()[0]
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    (tmp_path / name).write_text(header + "\n")
    assert "<svg" not in write_report(tmp_path, None).read_text()


def test_equal_files_give_an_equal_page(tmp_path: Path) -> None:
    pages = []
    for name in ("first", "second"):
        write_run(tmp_path / name, choices=2, epochs=2)
        (tmp_path / name / "metrics.csv").unlink()  # the retraining has curves too, and is quicker
        pages.append(write_report(tmp_path / name, nx.path_graph(3, create_using=nx.DiGraph)).read_bytes())
    assert pages[0] == pages[1]
    assert b"<svg" in pages[0]


def test_a_damaged_result_is_an_error_and_writes_no_page(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match=r"result\.json"):
        write_report(tmp_path, None)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("unit", "heading", "largest"), [("ms", "Latency", "slowest"), ("MACs", "Cost", "largest")])
def test_what_layers_cost_is_told_in_the_tables_unit(unit: str, heading: str, largest: str, tmp_path: Path) -> None:
    (tmp_path / "layers.csv").write_text("decision,option,cost\nlayer 1,k3,300\nlayer 2,k5,500\n")
    (tmp_path / "latency_table.json").write_text(json.dumps({"unit": unit}))
    page = write_report(tmp_path, None).read_text()
    assert f"<h2>{heading} by layer</h2>" in page
    assert f"2 layers, 800 {unit} in total; the {largest} is layer 2 k5, 500 {unit}." in page
